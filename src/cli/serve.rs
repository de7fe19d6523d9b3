//! `procura serve`: opens the data, binds, says that it is ready, serves until it is told to stop.

use super::delegation::duration;
use super::exit::{Exit, Failure};
use super::output::Output;
use crate::api;
use crate::engine::{Collector, Engine, Options};
use crate::model::Limits;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  procura serve --data ./data
  procura serve --data /var/lib/procura --listen 127.0.0.1:50051 --log-format json
  procura serve --data ./data --listen 127.0.0.1:0

The last takes a free port, which the line that says ready names.
Stops on SIGTERM and Ctrl-C: requests in flight are answered, then the data is
closed. PROCURA_LOG sets what is logged (default `info`; `procura=debug`).";

/// Serve the API over gRPC from a data folder
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// The folder of the embedded store; made when it is not there. One process at a time
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    listen: String,
    /// Listen on an address that others can reach, without TLS and credentials
    #[arg(long)]
    insecure: bool,
    /// For tests: let requests set the time by which expiry is judged, and keep tuples that have ended
    #[arg(long)]
    test_clock: bool,
    /// Most delegations in a chain, 1 to 16: each is another actor that is asked of every question
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=16))]
    delegation_depth_max: u32,
    /// The longest from a delegation's creation to its end, such as 12h (default: 30d; with --test-clock, any)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delegation_lifetime_max: Option<Duration>,
    /// Bytes of what is on disk that may be held in memory too, such as 4GiB (default: half of the machine's)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_limit: Option<u64>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Serve {
    /// Returns when the server has stopped and the data is closed.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let listen = address(&self.listen, self.insecure)?;
        log_to_stderr(self.log_format)?;
        if !listen.ip().is_loopback() {
            tracing::warn!(%listen, "serving without TLS and credentials: whoever reaches this may read and write");
        }
        let limits = Limits { delegation_depth_max: self.delegation_depth_max, ..Limits::default() };
        let mut options = Options::at(&self.data);
        options.limits = limits.clone();
        options.delegation_lifetime_max = self.delegation_lifetime_max;
        options.memory_bytes_max = self.memory_limit.unwrap_or(options.memory_bytes_max);
        if self.test_clock {
            tracing::warn!(
                "TEST CLOCK: requests may set the time, and expired tuples are kept; never serve so in earnest"
            );
            options.test_clock = true;
            options.collector = Collector::Off;
        }
        let engine = Arc::new(Engine::open(options)?);
        let data = self.data.display().to_string();
        if listen.ip().is_loopback() {
            tracing::info!(%data, "opened; for development: whoever reaches this address may read and write everything");
        }
        api::serve(engine, api::ServeOptions { listen, limits }, |address| {
            let said = if output.is_json() {
                output.value(&json!({"ready": true, "address": address.to_string(), "data": data}))
            } else {
                output.line(format_args!("procura is ready: data in {data}, listening on {address}"))
            };
            // A closed standard output is no reason not to serve.
            if let Err(error) = said.and_then(|()| output.flush()) {
                tracing::warn!(%error, "could not say that the server is ready");
            }
        })
        .map_err(|error| Failure::new(Exit::Refused, format!("cannot serve on `{listen}`: {error}")))?;
        Ok(Exit::Success)
    }
}

/// The address to bind. Others may reach it only on request: there are no credentials to keep them out yet.
fn address(listen: &str, insecure: bool) -> Result<SocketAddr, Failure> {
    let mut found = listen.to_socket_addrs().map_err(|error| {
        Failure::usage(format!("`--listen {listen}`: {error}"))
            .with_hint("such as `127.0.0.1:50051`, or port 0 for a free one")
    })?;
    let address = found.next().ok_or_else(|| Failure::usage(format!("`--listen {listen}` names no address")))?;
    if !address.ip().is_loopback() && !insecure {
        return Err(Failure::usage(format!(
            "`{address}` can be reached by others, and TLS and credentials are not there yet: whoever reaches it may \
             read and write everything"
        ))
        .with_hint("listen on 127.0.0.1 behind a proxy that authenticates, or say --insecure where you trust all"));
    }
    Ok(address)
}

/// A number of bytes, plain or in the usual units: 0, 512MiB, 4GiB.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit of bytes: KiB, MiB or GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "a number of bytes, such as 0, 512MiB or 4GiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "more bytes than any machine has".to_owned())
}

fn log_to_stderr(format: LogFormat) -> Result<(), Failure> {
    let filter = match std::env::var("PROCURA_LOG") {
        Ok(directives) => EnvFilter::try_new(&directives)
            .map_err(|error| Failure::usage(format!("PROCURA_LOG is `{directives}`: {error}")))?,
        Err(_) => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    installed.map_err(|error| Failure::new(Exit::Refused, format!("cannot log: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_their_units() {
        for (text, expected) in [("0", 0), ("512MiB", 512 << 20), ("4g", 4 << 30), ("1024", 1024), ("3 KiB", 0)] {
            assert_eq!(bytes(text).ok(), Some(expected).filter(|_| !text.contains(' ')), "{text}");
        }
        for wrong in ["", "GiB", "-1", "1TB", "99999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn others_are_let_in_only_on_request() {
        assert!(address("127.0.0.1:0", false).is_ok());
        assert!(address("[::1]:50051", false).is_ok());
        for open in ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051"] {
            assert!(address(open, false).is_err(), "{open}");
            assert!(address(open, true).is_ok(), "{open}");
        }
        for wrong in ["", "127.0.0.1", "127.0.0.1:x"] {
            assert!(address(wrong, true).is_err(), "{wrong}");
        }
    }
}
