//! `--via` and `--for`: for whom the subject of a question asks; and what an answer says of the chain.

use super::exit::Failure;
use crate::engine::{ChainTest, ChainTestKind, ExplainedChain};
use crate::model::{Acting, ChainLink, Decision, Denial, Mandate, ObjectRef};
use clap::Args;
use serde_json::{Value, json};

/// For whom the subject asks.
#[derive(Args)]
pub(super) struct ActingFor {
    /// Ask by a delegation: what its chain allows, and never the subject's own authority alone
    #[arg(long, value_name = "DELEGATION", help_heading = "Acting for another")]
    via: Option<String>,
    /// Ask on behalf of a principal, by any live delegation of it; with --via, expect that its chain begins there
    #[arg(long = "for", value_name = "TYPE:ID", help_heading = "Acting for another")]
    root: Option<String>,
    /// Expect these to be the principals of the chain, root first
    #[arg(long, value_name = "TYPE:ID,…", value_delimiter = ',', help_heading = "Acting for another")]
    presented_actors: Vec<String>,
}

impl ActingFor {
    /// As the engine takes it.
    pub(super) fn acting(&self) -> Result<Acting, Failure> {
        let root: Option<ObjectRef> = self.root.as_deref().map(|root| parsed("--for", root)).transpose()?;
        let presented_actors = self.presented_actors.iter().map(|actor| parsed("--presented-actors", actor));
        let presented_actors = presented_actors.collect::<Result<Vec<ObjectRef>, Failure>>()?;
        let (mandate, expect_root) = match (&self.via, root) {
            (Some(id), root) => (Mandate::Delegation(parsed("--via", id)?), root),
            (None, Some(root)) => (Mandate::OnBehalfOf(root), None),
            (None, None) if presented_actors.is_empty() => (Mandate::Own, None),
            (None, None) => return Err(Failure::usage("--presented-actors means nothing without --via or --for")),
        };
        Ok(Acting { mandate, expect_root, presented_actors })
    }
}

fn parsed<V: std::str::FromStr>(argument: &str, text: &str) -> Result<V, Failure>
where
    V::Err: std::fmt::Display,
{
    text.parse().map_err(|error| Failure::usage(format!("{argument} `{text}`: {error}")))
}

/// Why an answer is no allow, in words.
pub(super) fn denial_text(denial: &Denial) -> String {
    let Denial { reason, hop } = denial;
    match hop {
        Some(hop) => format!("{} at hop {hop}", reason.as_str()),
        None => reason.as_str().to_owned(),
    }
}

/// The chain in a line: who gave to whom.
pub(super) fn chain_text(chain: &[ChainLink]) -> String {
    let mut text = String::new();
    for (at, ChainLink { delegation, delegator, delegate }) in chain.iter().enumerate() {
        if at == 0 {
            text.push_str(&delegator.to_string());
        } else if chain.get(at - 1).is_none_or(|before| before.delegate.to_string() != delegator.to_string()) {
            // Of a userset, the one that gave it on.
            text.push_str(&format!(" ∋ {delegator}"));
        }
        text.push_str(&format!(" → {delegate} ({delegation})"));
    }
    text
}

/// The reason, the hop and the chain of an answer, put to its other fields.
pub(super) fn add_json(json: &mut Value, denial: Option<&Denial>, chain: &[ChainLink]) {
    let Value::Object(fields) = json else { return };
    fields.insert("reason".to_owned(), denial.map(|denial| denial.reason.as_str()).into());
    fields.insert("hop".to_owned(), denial.and_then(|denial| denial.hop).into());
    let link = |ChainLink { delegation, delegator, delegate }: &ChainLink| {
        json!({
            "delegation": delegation.to_string(),
            "delegator": delegator.to_string(),
            "delegate": delegate.to_string(),
        })
    };
    fields.insert("chain".to_owned(), chain.iter().map(link).collect::<Vec<Value>>().into());
}

/// A chain and its tests, one a line.
pub(super) fn chain_lines(chain: &ExplainedChain) -> Vec<(String, &ChainTest)> {
    chain.tests.iter().map(|test| (test_text(test), test)).collect()
}

fn test_text(test: &ChainTest) -> String {
    let ChainTest { kind, hop, actor, decision, reason, missing, found, failed, .. } = test;
    let mark = match (decision, failed) {
        (_, Some(_)) => "!",
        (Decision::Allow, None) => "✓",
        (Decision::Deny, None) => "✗",
        (Decision::Conditional, None) => "?",
    };
    let hop = hop.map(|hop| format!("hop {hop}")).unwrap_or_default();
    let actor = actor.as_ref().map(|actor| format!("{actor} ")).unwrap_or_default();
    let mut text = format!("{mark} {hop:7} {:9} {actor}{found}", kind_text(*kind));
    if *decision == Decision::Deny {
        text.push_str(&format!("  {}", reason.as_str()));
    }
    if !missing.is_empty() {
        text.push_str(&format!("  needs --context with {}", missing.join(", ")));
    }
    if let Some(why) = failed {
        text.push_str(&format!("  {why}"));
    }
    text
}

/// The word for a test, in text and JSON.
pub(super) fn kind_text(kind: ChainTestKind) -> &'static str {
    match kind {
        ChainTestKind::Expected => "chain",
        ChainTestKind::Link => "link",
        ChainTestKind::State => "state",
        ChainTestKind::Scope => "scope",
        ChainTestKind::Active => "active",
        ChainTestKind::Own => "own",
    }
}
