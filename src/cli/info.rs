//! `procura info`: what a server says about itself.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::reach::Server;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// Show a server's version, revision, schema digest and limits
#[derive(Args)]
#[command(after_help = "Example:\n  procura info --server 127.0.0.1:50051 --json")]
pub struct Info {
    #[command(flatten)]
    server: Server,
}

impl Info {
    /// Asks and prints.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let info = self.server.connect()?.server_info()?;
        if output.is_json() {
            let limits: serde_json::Map<String, Value> = info
                .limits
                .iter()
                .map(|(name, value, unit)| (name.clone(), json!({"value": value, "unit": unit})))
                .collect();
            output.value(&json!({
                "version": info.version,
                "token": info.revision_token,
                "schema_digest": info.schema_digest,
                "writes_stopped": info.writes_stopped,
                "limits": limits,
            }))?;
            return Ok(Exit::Success);
        }
        output.line(format_args!("version  {}", info.version))?;
        output.line(format_args!("schema   {}", info.schema_digest.as_deref().unwrap_or("none written yet")))?;
        output.line(format_args!("token    {}", info.revision_token))?;
        if info.writes_stopped {
            output.line("writes   stopped: a write to disk failed; check the disk, then restart")?;
        }
        output.line("limits")?;
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (name, value, unit) in &info.limits {
            table.add_row([format!("  {name}"), value.to_string(), unit.clone()]);
        }
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Right);
        }
        output.line(table.trim_fmt())?;
        Ok(Exit::Success)
    }
}
