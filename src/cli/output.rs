//! Printing: results to standard output, everything else to standard error; colour only on terminals.
//!
//! Both streams strip colour themselves where it is not wanted (no terminal, `NO_COLOR`), so callers style freely.

use super::exit::Complaint;
use crate::model::Decision;
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};

/// Where a command prints, and in which of the two forms.
pub struct Output {
    stdout: BufWriter<anstream::Stdout>,
    json: bool,
}

impl Output {
    /// Buffered: call [`Output::flush`] where somebody waits for a line.
    pub fn new(json: bool) -> Output {
        Output { stdout: BufWriter::new(anstream::stdout()), json }
    }

    /// Whether machines read this.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text for people.
    pub fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.stdout, "{text}")
    }

    /// Text as it is, without a line's end of ours.
    pub fn verbatim(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())
    }

    /// One value as one line.
    pub fn value(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.stdout, "{}", json_line(value))
    }

    /// Hands over what was buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Something a person should know beside the results. Not printed for machines.
    pub fn note(&mut self, text: impl std::fmt::Display) {
        if !self.json {
            // Standard error may be closed; there is nobody left to tell.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// The failure that ends the command, to standard error.
    pub fn complain(&mut self, complaint: &Complaint) {
        let mut stderr = anstream::stderr();
        let text = if self.json { json_line(&json_of(complaint)) } else { text_of(complaint) };
        let _ = writeln!(stderr, "{text}");
    }
}

/// A value as JSON. The streams take control characters for colour and drop them where it is not wanted, so those that JSON
/// leaves as they are, are escaped.
fn json_line(value: &Value) -> String {
    let text = value.to_string();
    let is_control = |character: char| ('\u{7f}'..='\u{9f}').contains(&character);
    if !text.contains(is_control) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_control(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn text_of(complaint: &Complaint) -> String {
    let mut text = String::new();
    for block in &complaint.pointed {
        text.push_str(block.trim_end());
        text.push_str("\n\n");
    }
    text.push_str(&format!("{} {}", "error:".red().bold(), complaint.message));
    if let Some((code, reason)) = &complaint.code {
        let names: Vec<&str> = [code.as_str(), reason.as_str()].into_iter().filter(|name| !name.is_empty()).collect();
        if !names.is_empty() {
            text.push_str(&format!(" {}", format!("[{}]", names.join(" ")).dimmed()));
        }
    }
    for (key, value) in &complaint.facts {
        text.push_str(&format!("\n  {key}: {value}"));
    }
    if let Some(hint) = &complaint.hint {
        text.push_str(&format!("\n{} {hint}", "hint:".cyan().bold()));
    }
    text
}

fn json_of(complaint: &Complaint) -> Value {
    let (code, reason) = complaint.code.clone().unwrap_or_default();
    let facts: serde_json::Map<String, Value> =
        complaint.facts.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let pointed: Vec<String> =
        complaint.pointed.iter().map(|block| anstream::adapter::strip_str(block).to_string()).collect();
    json!({"error": {
        "exit": complaint.exit as u8,
        "code": code,
        "reason": reason,
        "message": complaint.message,
        "hint": complaint.hint,
        "facts": facts,
        "pointed": pointed,
    }})
}

/// The decision's word in its colour.
pub fn decision(decision: Decision) -> String {
    let word = decision.as_str();
    match decision {
        Decision::Allow => word.green().bold().to_string(),
        Decision::Deny => word.red().bold().to_string(),
        Decision::Conditional => word.yellow().bold().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_after_what_strips_colour() {
        let value = json!({"a": "dök \u{9b}31m \u{1b}[1m \u{7f} ÛśÐĝ 漢 🙂", "b": ["\u{80}", "\u{a0}"]});
        let line = json_line(&value);
        let stripped = anstream::adapter::strip_str(&line).to_string();
        assert_eq!(stripped, line);
        assert_eq!(serde_json::from_str::<Value>(&stripped).unwrap(), value);
    }
}
