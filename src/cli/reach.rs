//! Options that several commands share: which server, at which point in time, with what beside a write.

use super::exit::Failure;
use super::input::{Strict, read_texts};
use super::output::Output;
use crate::api::client::{At, Client, Under};
use crate::engine::Metadata;
use crate::model::{Context, Limits, ObjectRef, Precondition, RelationTuple, Timestamp, TupleFilter, TypeName};
use crate::schema::{Schema, compile};
use clap::Args;

/// Where the server is.
#[derive(Args)]
pub struct Server {
    /// The server to ask: HOST:PORT or http://HOST:PORT
    #[arg(long, env = "PROCURA_SERVER", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    server: String,
}

impl Server {
    /// Connects, or says that nobody answers there.
    pub fn connect(&self) -> Result<Client, Failure> {
        connect(&self.server)
    }
}

/// Connects to `host:port` or `http://host:port`.
pub fn connect(server: &str) -> Result<Client, Failure> {
    judged(server)?;
    Ok(Client::connect(server)?)
}

/// The schema that is asked, for what a person should know of a question. `None` where that cannot be had: the question's
/// own error is the better word on it.
fn schema(client: &Client, at: &At) -> Option<Schema> {
    let text = client.read_schema(at).ok()?.text;
    Some(compile(&text, &Limits::default()).ok()?.schema)
}

/// Says so where a subtree has nothing beneath its root by this schema, or nothing of the type asked about.
pub fn note_within(client: &Client, at: &At, root: &ObjectRef, listed: Option<&TypeName>, output: &mut Output) {
    if output.is_json() {
        return;
    }
    let Some(schema) = schema(client, at) else { return };
    let of = &root.object_type;
    let lies_beneath = |name: &TypeName| {
        schema.parents(name).any(|parent| parent.subjects.iter().any(|subject| subject.subject_type == *of))
    };
    match listed {
        Some(listed) if listed != of && schema.parents(listed).next().is_none() => {
            output.note(format_args!(
                "note: `{listed}` has no `parent` in the schema, so none of it lies within `{root}`"
            ));
        }
        _ if !schema.definitions().iter().any(|definition| lies_beneath(&definition.name)) => {
            output.note(format_args!(
                "note: no `parent` of the schema leads to `{of}`, so nothing but `{root}` itself lies within it"
            ))
        }
        Some(_) | None => {}
    }
}

/// Says so where a value is given for what is no caveat's parameter: it is ignored.
pub fn note_context(client: &Client, under: &Under, output: &mut Output) {
    if output.is_json() || under.context.is_empty() {
        return;
    }
    let Some(schema) = schema(client, &under.at) else { return };
    let parameters = || schema.caveats().iter().flat_map(|caveat| &caveat.parameters).map(|(name, _)| name.as_str());
    for key in under.context.keys().filter(|key| !parameters().any(|name| name == *key)) {
        let meant = schema.parameter_meant(key).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        output.note(format_args!(
            "note: no caveat of the schema has a parameter `{key}`, so its value is ignored{meant}"
        ));
    }
}

/// Refuses what is no address of ours before anything is sent.
fn judged(server: &str) -> Result<(), Failure> {
    if server.starts_with("https://") {
        return Err(Failure::usage(format!("`{server}`: TLS is not supported yet"))
            .with_hint("use `host:port` or `http://host:port`, over a loopback address or a tunnel"));
    }
    let bare = server.strip_prefix("http://").unwrap_or(server);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let port =
        bare.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() || bare.contains('/') {
        return Err(Failure::usage(format!("`{server}` is not the address of a server"))
            .with_hint("use `host:port` or `http://host:port`, such as `127.0.0.1:50051`"));
    }
    Ok(())
}

/// Which state is asked.
#[derive(Args)]
pub struct When {
    /// Answer from a state not older than this token, which an earlier write or answer gave
    #[arg(long, value_name = "TOKEN", conflicts_with = "at_exact_snapshot")]
    at_least_as_fresh: Option<String>,
    /// Answer from exactly the state of this token, while it is kept
    #[arg(long, value_name = "TOKEN")]
    at_exact_snapshot: Option<String>,
}

impl When {
    /// The newest state unless a token says otherwise.
    pub fn at(&self) -> At {
        match (&self.at_least_as_fresh, &self.at_exact_snapshot) {
            (Some(token), _) => At::AtLeastAsFresh(token.clone()),
            (None, Some(token)) => At::AtExactSnapshot(token.clone()),
            (None, None) => At::Newest,
        }
    }
}

/// What is taken for given while a question is answered.
#[derive(Args)]
pub struct Given {
    /// Values for the parameters of caveats: a JSON object, or `@FILE` that holds one
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    #[command(flatten)]
    facts: Facts,
}

/// Which tuples are taken for given, and which time.
#[derive(Args)]
pub struct Facts {
    /// Answer as if this tuple were written; it is not. May be given several times
    #[arg(long, value_name = "TUPLE")]
    contextual_tuple: Vec<String>,
    /// Answer as of this time; only from a server with --test-clock
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    clock: Option<Timestamp>,
}

impl Given {
    /// Together with the state that is asked.
    pub fn under(&self, when: &When) -> Result<Under, Failure> {
        let context = self.context.as_deref().map(read_context).transpose()?.unwrap_or_default();
        Ok(Under { context, ..self.facts.under(when)? })
    }
}

impl Facts {
    /// Together with the state that is asked.
    pub fn under(&self, when: &When) -> Result<Under, Failure> {
        let items = read_texts::<RelationTuple>(&self.contextual_tuple, None)?;
        Ok(Under {
            at: when.at(),
            context: Context::new(),
            contextual_tuples: items.into_iter().map(|item| item.value).collect(),
            clock: self.clock,
        })
    }
}

/// How much of a context a message quotes, in characters.
const CONTEXT_SHOWN_MAX: usize = 100;

/// Reads the values for caveats: a JSON object, or `@FILE` that holds one.
fn read_context(given: &str) -> Result<Context, Failure> {
    let text = match given.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read the context from `{file}`: {error}")))?,
        None => given.to_owned(),
    };
    serde_json::from_str(&text).map(|Strict(context)| context).map_err(|error| {
        let shown: String = given.chars().take(CONTEXT_SHOWN_MAX).collect();
        let cut = if shown.len() < given.len() { "…" } else { "" };
        Failure::usage(format!("`--context {shown}{cut}`: not a JSON object: {error}"))
            .with_hint("such as --context '{\"user_ip\": \"10.1.2.3\"}'")
    })
}

/// What travels with a write.
#[derive(Args)]
pub struct Beside {
    /// Kept with the change in the log; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
}

impl Beside {
    /// The metadata as given; a key may stand once.
    pub fn metadata(&self) -> Result<Metadata, Failure> {
        let mut metadata = Metadata::new();
        for given in &self.metadata {
            let Some((key, value)) = given.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(Failure::usage(format!("`{given}` is not `KEY=VALUE`")));
            };
            if metadata.insert(key.to_owned(), value.into()).is_some() {
                return Err(Failure::usage(format!("the metadata `{key}` is given twice")));
            }
        }
        Ok(metadata)
    }
}

/// What must be so at the moment of a write.
#[derive(Args)]
pub struct Provided {
    /// Write only if this tuple exists at that moment; may be given several times
    #[arg(long, value_name = "TUPLE")]
    must_match: Vec<String>,
    /// Write only if this tuple does not exist at that moment; may be given several times
    #[arg(long, value_name = "TUPLE")]
    must_not_match: Vec<String>,
}

impl Provided {
    /// One precondition for each tuple given.
    pub fn preconditions(&self) -> Result<Vec<Precondition>, Failure> {
        let exactly = |texts: &[String]| -> Result<Vec<TupleFilter>, Failure> {
            let items = read_texts::<RelationTuple>(texts, None)?;
            Ok(items.iter().map(|item| TupleFilter::exactly(&item.value.key)).collect())
        };
        let mut preconditions: Vec<Precondition> =
            exactly(&self.must_match)?.into_iter().map(Precondition::MustMatch).collect();
        preconditions.extend(exactly(&self.must_not_match)?.into_iter().map(Precondition::MustNotMatch));
        Ok(preconditions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_judged_before_anything_is_sent() {
        for good in ["127.0.0.1:50051", "http://localhost:1", "[::1]:50051", "http://[::1]:50051/"] {
            assert!(judged(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            ":50051",
            "https://localhost:50051",
            "ftp://x:1",
            "host:port",
            "http://h:1/path",
            "h:70000",
        ] {
            assert!(judged(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_is_key_and_value() {
        let beside = |texts: &[&str]| Beside { metadata: texts.iter().map(|text| (*text).to_owned()).collect() };
        assert_eq!(beside(&["ticket=T=1"]).metadata().unwrap()["ticket"], "T=1");
        assert!(beside(&["ticket"]).metadata().is_err());
        assert!(beside(&["=x"]).metadata().is_err());
        assert!(beside(&["a=1", "a=2"]).metadata().is_err());
    }
}
