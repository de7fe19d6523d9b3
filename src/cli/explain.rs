//! `procura explain`: why is the answer to a question what it is, and which one tuple would make it an allow.
//!
//! INVARIANT: the exit code is Check's: 0 only when the answer is ALLOW.

use super::acting::{ActingFor, add_json, chain_lines, chain_text, denial_text, kind_text};
use super::exit::{Exit, Failure};
use super::input::read_texts;
use super::output::{Output, decision as coloured};
use super::reach::{Given, Server, When, note_context};
use super::tree::Shape;
use crate::api::client::Explained;
use crate::engine::{ChainTest, ExplainedChain};
use crate::model::{Decision, ExplainPart, ExplainStep, NearMiss, NearMissKind, Operator, Question};
use clap::Args;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  procura explain 'project:alpha#delete@user:dana'
  procura explain 'doc:1#view@user:dana' --context '{\"user_ip\": \"10.1.2.3\"}'
  procura explain 'invoice:9#refund@agent:support_bot' --via dlg_1f0c…
  procura explain 'project:alpha#delete@user:dana' --json

An ALLOW is shown with its proof, any other answer with what was tried. `+` is a
tuple that would make it ALLOW if it were written, `-` one if it were deleted.
By a delegation, or for a principal, every test of the chain is shown.
The exit code is that of `check`.";

/// Why may this subject do that, or why not
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    /// TYPE:ID#PERMISSION@TYPE:ID, or a userset TYPE:ID#RELATION at the end
    #[arg(value_name = "QUESTION")]
    question: String,
    #[command(flatten)]
    acting: ActingFor,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

impl Explain {
    /// Asks and prints.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let items = read_texts::<Question>(&[self.question], None)?;
        let Some(question) = items.into_iter().next().map(|item| item.value) else {
            return Err(Failure::usage("no question was given"));
        };
        let under = self.given.under(&self.when)?;
        let client = self.server.connect()?;
        note_context(&client, &under, output);
        let explained = client.explain(&question, &self.acting.acting()?, &under)?;
        if output.is_json() {
            output.value(&json_of(&question, &explained))?;
        } else {
            print(&question, &explained, output)?;
        }
        Ok(match explained.decision {
            Decision::Allow => Exit::Success,
            Decision::Deny => Exit::Negative,
            Decision::Conditional => Exit::Conditional,
        })
    }
}

fn print(question: &Question, explained: &Explained, output: &mut Output) -> Result<(), Failure> {
    let Explained {
        decision,
        token: _,
        historical,
        missing,
        valid_until,
        steps,
        truncated,
        near_misses,
        near_misses_cut,
        denial,
        chain,
        chains,
    } = explained;
    let Question { object, permission, subject } = question;
    output.line(format_args!("{} {object}#{permission}@{subject}", coloured(*decision)))?;
    if !missing.is_empty() {
        output.line(format_args!("  needs --context with {}", missing.join(", ")))?;
    }
    if let Some(end) = valid_until {
        output.line(format_args!("  until {end} at least"))?;
    }
    if !chain.is_empty() {
        output.line(format_args!("  for {}", chain_text(chain)))?;
    }
    if let Some(denial) = denial {
        output.line(format_args!("  {}", denial_text(denial)))?;
    }
    if denial.is_none() && chains.is_empty() {
        reasons((&subject.to_string(), None), *decision, (steps, near_misses, *near_misses_cut), output)?;
    }
    for explained in chains {
        output.line(format_args!("{} {}", coloured(explained.decision), chain_text(&explained.links)))?;
        for (text, test) in chain_lines(explained) {
            output.line(format_args!("  {text}"))?;
            let actor = test.actor.as_ref().map(ToString::to_string).unwrap_or_default();
            if !test.steps.is_empty() {
                reasons(
                    (&actor, test.hop),
                    test.decision,
                    (&test.steps, &test.near_misses, test.near_misses_cut),
                    output,
                )?;
            }
        }
    }
    if *truncated {
        output.note("the tree is cut where it says so: it has as many steps as are shown, or cost as much");
    }
    if *historical {
        output.note("this answer is historical: newer revisions exist");
    }
    Ok(())
}

/// The proof of an allow; or what was tried, and what would help.
fn reasons(
    (subject, hop): (&str, Option<usize>),
    decision: Decision,
    (steps, near_misses, cut): (&[ExplainStep], &[NearMiss], bool),
    output: &mut Output,
) -> Result<(), Failure> {
    output.line(tree(steps, decision))?;
    match (decision, near_misses, cut) {
        (Decision::Allow, _, _) => {}
        (Decision::Deny | Decision::Conditional, [], false) => {
            output.line(format_args!(
                "no single tuple that was tried would make it ALLOW; all that name {subject} were"
            ))?;
        }
        (Decision::Deny | Decision::Conditional, [], true) => {
            output.line("no single tuple was found that would make it ALLOW; there may be one")?;
        }
        (Decision::Deny | Decision::Conditional, found, _) => {
            let which = match found {
                [_] => "this one",
                _ => "one of these",
            };
            output.line(match hop {
                None => format!("would be ALLOW with {which}"),
                // The other tests of the chain stand as they are.
                Some(hop) => format!("this test, hop {hop}, would hold with {which}"),
            })?;
            for NearMiss { kind, tuple } in found {
                output.line(match kind {
                    NearMissKind::Add => format!("  {} {tuple}", "+".green().bold()),
                    NearMissKind::Remove => format!("  {} {tuple}", "-".red().bold()),
                })?;
            }
            if cut {
                output.line("  … there may be more".dimmed())?;
            }
        }
    }
    Ok(())
}

/// The steps as a tree. What a member is made of stands on its own line, where it is one thing only.
fn tree(steps: &[ExplainStep], decision: Decision) -> String {
    let shape = Shape::new(steps.iter().map(|step| step.depth));
    let mut texts: Vec<Option<String>> = Vec::with_capacity(steps.len());
    // The step that was told with the one before it.
    let mut told_above = None;
    for (at, step) in steps.iter().enumerate() {
        if told_above == Some(at) {
            texts.push(None);
            continue;
        }
        let above = shape.parent(at).and_then(|parent| steps.get(parent)).map(|step| &step.part);
        let mut text = text_of(step, above, decision);
        if is_said_with_its_child(&step.part)
            && let Some(child) = shape.only_child(at)
            && let Some(note) = steps.get(child).and_then(|child| note_of(&child.part))
        {
            if !note.is_empty() {
                text.push_str(&format!("  {}", note.dimmed()));
            }
            told_above = Some(child);
        }
        texts.push(Some(text));
    }
    shape.drawn(&texts, 0)
}

/// What takes away what the rest would give: the subtracted parts that hold where what they are taken from is not denied,
/// each by its name, with tuples by which it holds as far as the tree shows them.
pub fn taken_away(steps: &[ExplainStep]) -> Vec<(String, Vec<String>)> {
    let shape = Shape::new(steps.iter().map(|step| step.depth));
    let value = |at: usize| steps.get(at).and_then(|step| step.value);
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.subtracted) {
        let is_taken_from = shape.parent(at).is_some_and(|parent| value(parent + 1) != Some(Decision::Deny));
        if step.value != Some(Decision::Allow) || !shape.is_later_child(at) || !is_taken_from {
            continue;
        }
        let below = steps.get(at..shape.end(at)).unwrap_or_default();
        let mut tuples: Vec<String> = below.iter().filter_map(held_tuple).collect();
        let named = match &step.part {
            ExplainPart::Member(_) | ExplainPart::Repeated(_) | ExplainPart::Arrow(_) | ExplainPart::Itself(_) => {
                bare_text(&step.part)
            }
            // What has no name is told by what holds in it.
            ExplainPart::Operator(_)
            | ExplainPart::Tuple { .. }
            | ExplainPart::Ended(_)
            | ExplainPart::Unnamed { .. }
            | ExplainPart::Empty
            | ExplainPart::Userset(_)
            | ExplainPart::Nil
            | ExplainPart::Excluded(_)
            | ExplainPart::More { .. }
            | ExplainPart::Cut => below
                .iter()
                .find(|step| step.value == Some(Decision::Allow) && matches!(step.part, ExplainPart::Member(_)))
                .map_or_else(|| "what is subtracted".to_owned(), |step| bare_text(&step.part)),
        };
        match found.iter_mut().find(|(name, _)| *name == named) {
            Some((_, known)) => {
                tuples.retain(|tuple| !known.contains(tuple));
                known.append(&mut tuples);
            }
            None => found.push((named, tuples)),
        }
    }
    found
}

/// Each in a line, with a few of its tuples.
pub fn taken_away_lines(taken_away: &[(String, Vec<String>)]) -> Vec<String> {
    const SHOWN_MAX: usize = 4;
    let line = |(named, tuples): &(String, Vec<String>)| {
        let mut shown: Vec<&str> = tuples.iter().take(SHOWN_MAX).map(String::as_str).collect();
        if tuples.len() > SHOWN_MAX {
            shown.push("…");
        }
        let by = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
        format!("because {named} takes it away{by}")
    };
    taken_away.iter().map(line).collect()
}

/// The same for machines, with all its tuples.
pub fn taken_away_json(taken_away: &[(String, Vec<String>)]) -> Value {
    taken_away.iter().map(|(named, tuples)| json!({"by": named, "tuples": tuples})).collect()
}

fn held_tuple(step: &ExplainStep) -> Option<String> {
    match &step.part {
        ExplainPart::Tuple { tuple, .. } if step.value == Some(Decision::Allow) => Some(tuple.to_string()),
        ExplainPart::Tuple { .. }
        | ExplainPart::Ended(_)
        | ExplainPart::Member(_)
        | ExplainPart::Repeated(_)
        | ExplainPart::Operator(_)
        | ExplainPart::Arrow(_)
        | ExplainPart::Unnamed { .. }
        | ExplainPart::Empty
        | ExplainPart::Userset(_)
        | ExplainPart::Itself(_)
        | ExplainPart::Nil
        | ExplainPart::Excluded(_)
        | ExplainPart::More { .. }
        | ExplainPart::Cut => None,
    }
}

fn is_said_with_its_child(part: &ExplainPart) -> bool {
    matches!(part, ExplainPart::Member(_) | ExplainPart::Arrow(_))
}

/// What may stand on the line of the step above, if it is all there is below it.
fn note_of(part: &ExplainPart) -> Option<String> {
    match part {
        ExplainPart::Operator(Operator::Union) => Some("any of".to_owned()),
        ExplainPart::Operator(Operator::Intersection) => Some("all of".to_owned()),
        // Its second part says `but not`.
        ExplainPart::Operator(Operator::Exclusion) => Some(String::new()),
        ExplainPart::Unnamed { .. } | ExplainPart::Empty | ExplainPart::Nil | ExplainPart::Cut => Some(bare_text(part)),
        ExplainPart::Member(_)
        | ExplainPart::Repeated(_)
        | ExplainPart::Arrow(_)
        | ExplainPart::Tuple { .. }
        | ExplainPart::Ended(_)
        | ExplainPart::Userset(_)
        | ExplainPart::Itself(_)
        | ExplainPart::Excluded(_)
        | ExplainPart::More { .. } => None,
    }
}

fn text_of(step: &ExplainStep, above: Option<&ExplainPart>, decision: Decision) -> String {
    let ExplainStep { depth: _, value, failed, subtracted, part } = step;
    let bare = bare_text(part);
    let unknown = |why: &str| format!("  {} ({why})", "UNKNOWN".yellow().bold());
    // Within a proof all holds; only what does not is worth a word.
    let says = |value: &Option<Decision>| match (value, failed) {
        (_, Some(why)) => unknown(why),
        (Some(value), None) if decision != Decision::Allow => format!("  {}", coloured(*value)),
        (Some(_) | None, None) => String::new(),
    };
    let but_not = if *subtracted { "but not " } else { "" };
    match part {
        ExplainPart::Member(_) | ExplainPart::Operator(_) | ExplainPart::Arrow(_) | ExplainPart::Itself(_) => {
            format!("{but_not}{bare}{}", says(value))
        }
        ExplainPart::Repeated(_) => format!("{but_not}{bare}{}  {}", says(value), "shown elsewhere".dimmed()),
        ExplainPart::Tuple { missing, failed, .. } => match (value, failed) {
            (_, Some(why)) => format!("{bare}{}", unknown(&format!("its caveat cannot be evaluated: {why}"))),
            (Some(Decision::Conditional), None) => {
                format!("{bare}{} (needs {})", says(value), missing.join(", "))
            }
            (Some(Decision::Deny), None) => format!("{bare}{} (its caveat is false)", says(value)),
            (Some(Decision::Allow) | None, None) if decision == Decision::Allow => bare.green().to_string(),
            (Some(Decision::Allow) | None, None) => bare,
        },
        ExplainPart::Ended(tuple) => match tuple.expires_at {
            Some(end) => format!("{bare}{} (ended at {end})", says(value)),
            None => format!("{bare}{}", says(value)),
        },
        ExplainPart::Excluded(member) => match above {
            Some(ExplainPart::Member(parent)) if parent == member => "nothing takes it away".to_owned(),
            Some(_) | None => format!("not {bare}"),
        },
        ExplainPart::Nil if matches!(above, Some(ExplainPart::Tuple { .. })) => {
            "leads nowhere: its type does not have that".dimmed().to_string()
        }
        ExplainPart::Nil => format!("{but_not}{bare}{}", says(value)),
        ExplainPart::Userset(_) => bare,
        ExplainPart::Unnamed { .. } | ExplainPart::Empty | ExplainPart::More { .. } | ExplainPart::Cut => {
            bare.dimmed().to_string()
        }
    }
}

fn bare_text(part: &ExplainPart) -> String {
    match part {
        ExplainPart::Member(member) | ExplainPart::Repeated(member) | ExplainPart::Excluded(member) => {
            member.to_string()
        }
        ExplainPart::Operator(Operator::Union) => "any of".to_owned(),
        ExplainPart::Operator(Operator::Intersection) => "all of".to_owned(),
        ExplainPart::Operator(Operator::Exclusion) => "the first but not the second".to_owned(),
        ExplainPart::Arrow(arrow) => arrow.to_string(),
        ExplainPart::Tuple { tuple, .. } | ExplainPart::Ended(tuple) => tuple.to_string(),
        ExplainPart::Unnamed { subject, admitted: true } => format!("no live tuple names {subject}"),
        ExplainPart::Unnamed { subject, admitted: false } => format!("takes no subject such as {subject}"),
        ExplainPart::Empty => "no tuple".to_owned(),
        ExplainPart::Userset(subject) => format!("{subject} is itself"),
        ExplainPart::Itself(object) => format!("self, {object}"),
        ExplainPart::Nil => "nil".to_owned(),
        ExplainPart::More { tuples: 1 } => "… 1 more tuple".to_owned(),
        ExplainPart::More { tuples } => format!("… {tuples} more tuples"),
        ExplainPart::Cut => "… not shown".to_owned(),
    }
}

fn json_of(question: &Question, explained: &Explained) -> Value {
    let Explained {
        decision,
        token,
        historical,
        missing,
        valid_until,
        steps,
        truncated,
        near_misses,
        near_misses_cut,
        denial,
        chain,
        chains,
    } = explained;
    let Question { object, permission, subject } = question;
    let mut json = json!({
        "question": format!("{object}#{permission}@{subject}"),
        "decision": decision.as_str(),
        "token": token,
        "historical": historical,
        "missing_context": missing,
        "valid_until": valid_until.map(|end| end.to_string()),
        "steps": steps.iter().map(json_of_step).collect::<Vec<_>>(),
        "truncated": truncated,
        "near_misses": near_misses.iter().map(json_of_near_miss).collect::<Vec<_>>(),
        "near_misses_cut": near_misses_cut,
        "chains": chains.iter().map(json_of_chain).collect::<Vec<_>>(),
    });
    add_json(&mut json, denial.as_ref(), chain);
    json
}

fn json_of_near_miss(near: &NearMiss) -> Value {
    json!({"kind": near.kind.as_str(), "tuple": near.tuple.to_string()})
}

fn json_of_chain(explained: &ExplainedChain) -> Value {
    let ExplainedChain { links, decision, denial, tests } = explained;
    let mut json = json!({
        "decision": decision.as_str(),
        "tests": tests.iter().map(json_of_test).collect::<Vec<_>>(),
    });
    add_json(&mut json, denial.as_ref(), links);
    json
}

fn json_of_test(test: &ChainTest) -> Value {
    let ChainTest {
        kind,
        hop,
        actor,
        decision,
        reason,
        missing,
        found,
        failed,
        steps,
        truncated,
        near_misses,
        near_misses_cut,
    } = test;
    json!({
        "test": kind_text(*kind),
        "hop": hop,
        "actor": actor.as_ref().map(ToString::to_string),
        "decision": decision.as_str(),
        "reason": (*decision == Decision::Deny).then(|| reason.as_str()),
        "missing_context": missing,
        "found": found,
        "failed": failed,
        "steps": steps.iter().map(json_of_step).collect::<Vec<_>>(),
        "truncated": truncated,
        "near_misses": near_misses.iter().map(json_of_near_miss).collect::<Vec<_>>(),
        "near_misses_cut": near_misses_cut,
    })
}

fn json_of_step(step: &ExplainStep) -> Value {
    let ExplainStep { depth, value, failed, subtracted, part } = step;
    let mut json = match part {
        ExplainPart::Member(member) => json!({"step": "member", "member": member.to_string()}),
        ExplainPart::Repeated(member) => json!({"step": "repeated", "member": member.to_string()}),
        ExplainPart::Operator(operator) => json!({"step": "operator", "operator": operator.as_str()}),
        ExplainPart::Arrow(arrow) => {
            json!({"step": "arrow", "object": arrow.object.to_string(), "arrow": arrow.to_string()})
        }
        ExplainPart::Tuple { tuple, missing, failed } => {
            json!({"step": "tuple", "tuple": tuple.to_string(), "missing_context": missing, "failed": failed})
        }
        ExplainPart::Ended(tuple) => json!({"step": "ended", "tuple": tuple.to_string()}),
        ExplainPart::Unnamed { subject, admitted } => {
            json!({"step": "unnamed", "subject": subject.to_string(), "admitted": admitted})
        }
        ExplainPart::Empty => json!({"step": "empty"}),
        ExplainPart::Userset(subject) => json!({"step": "userset", "subject": subject.to_string()}),
        ExplainPart::Itself(object) => json!({"step": "itself", "object": object.to_string()}),
        ExplainPart::Nil => json!({"step": "nil"}),
        ExplainPart::Excluded(member) => json!({"step": "excluded", "member": member.to_string()}),
        ExplainPart::More { tuples } => json!({"step": "more", "tuples": tuples}),
        ExplainPart::Cut => json!({"step": "cut"}),
    };
    if let Value::Object(fields) = &mut json {
        fields.insert("depth".to_owned(), (*depth).into());
        fields.insert("value".to_owned(), value.map(Decision::as_str).into());
        fields.insert("subtracted".to_owned(), (*subtracted).into());
        // Of a tuple it is told already.
        if let Some(why) = failed {
            fields.insert("failed".to_owned(), why.as_str().into());
        }
    }
    json
}
