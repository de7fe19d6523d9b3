//! `procura expand`: what a permission is made of on an object, and which tuples stand in it.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::reach::{Facts, Server, When};
use super::tree::Shape;
use crate::api::client::Expanded;
use crate::model::{ExpandPart, ExpandStep, ObjectRef, Operator, RelationName};
use clap::Args;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  procura expand project:alpha edit
  procura expand 'project:alpha#edit'              the same
  procura expand project:alpha edit --depth 3
  procura expand project:alpha edit --depth 3 --json

At depth 1 usersets and what arrows lead to are named and not opened. More than
10,000 steps are an error, never a part that looks whole.";

/// What a permission is made of on an object, with the tuples that stand in it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Expand {
    /// TYPE:ID, and a permission or relation of it
    #[arg(value_names = ["OBJECT", "PERMISSION"], num_args = 1..=2, required = true)]
    asked: Vec<String>,
    /// How many levels of objects are opened
    #[arg(long, value_name = "LEVELS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

impl Expand {
    /// Asks and prints.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let (object, permission) = asked(&self.asked)?;
        let under = self.facts.under(&self.when)?;
        let expanded = self.server.connect()?.expand(&object, &permission, self.depth, &under)?;
        let Expanded { steps, token, historical } = &expanded;
        if output.is_json() {
            output.value(&json!({
                "object": object.to_string(),
                "permission": permission.as_str(),
                "token": token,
                "historical": historical,
                "steps": steps.iter().map(json_of_step).collect::<Vec<_>>(),
            }))?;
        } else {
            output.line(tree(steps))?;
            if *historical {
                output.note("this expansion is historical: newer revisions exist");
            }
        }
        Ok(Exit::Success)
    }
}

/// An object and a permission, as two arguments or one.
fn asked(given: &[String]) -> Result<(ObjectRef, RelationName), Failure> {
    let (object, permission) = match given {
        [object, permission] => (object.as_str(), permission.as_str()),
        [one] => one.split_once('#').ok_or_else(|| wrong("OBJECT#PERMISSION", one, &"it has no `#`"))?,
        _ => return Err(Failure::usage("an object and a permission are needed")),
    };
    let object = object.parse().map_err(|error| wrong("OBJECT", object, &error))?;
    Ok((object, RelationName::new(permission).map_err(|error| wrong("PERMISSION", permission, &error))?))
}

fn wrong(argument: &str, text: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{argument} `{text}`: {error}"))
        .with_hint("such as `expand project:alpha edit` or `expand 'project:alpha#edit'`")
}

/// The steps as a tree, a member and what combines its parts on one line.
fn tree(steps: &[ExpandStep]) -> String {
    let shape = Shape::new(steps.iter().map(|step| step.depth));
    let mut texts: Vec<Option<String>> = Vec::with_capacity(steps.len());
    let mut told_above = None;
    for (at, step) in steps.iter().enumerate() {
        if told_above == Some(at) {
            texts.push(None);
            continue;
        }
        let above = shape.parent(at).and_then(|parent| steps.get(parent)).map(|step| &step.part);
        let is_taken_away =
            matches!(above, Some(ExpandPart::Operator(Operator::Exclusion))) && shape.is_later_child(at);
        let but_not = if is_taken_away { "but not " } else { "" };
        let mut text = format!("{but_not}{}", text_of(&step.part, above));
        if let ExpandPart::Member(_) = step.part
            && let Some(child) = shape.only_child(at)
            && let Some(ExpandPart::Operator(operator)) = steps.get(child).map(|child| &child.part)
        {
            match operator {
                Operator::Union | Operator::Intersection => {
                    text.push_str(&format!("  {}", words(*operator).dimmed()));
                }
                // Its second part says `but not`.
                Operator::Exclusion => {}
            }
            told_above = Some(child);
        }
        // A permission has its expression below; a relation, or an arrow, its tuples.
        if matches!(step.part, ExpandPart::Member(_) | ExpandPart::Arrow(_)) && shape.is_leaf(at) {
            text.push_str(&format!("  {}", "no tuple".dimmed()));
        }
        texts.push(Some(text));
    }
    shape.drawn(&texts, 1)
}

fn words(operator: Operator) -> &'static str {
    match operator {
        Operator::Union => "any of",
        Operator::Intersection => "all of",
        Operator::Exclusion => "the first but not the second",
    }
}

fn text_of(part: &ExpandPart, above: Option<&ExpandPart>) -> String {
    match part {
        ExpandPart::Member(member) => member.to_string(),
        ExpandPart::Beyond(member) => format!("{member}  {}", "…".dimmed()),
        ExpandPart::Repeated(member) => format!("{member}  {}", "shown elsewhere".dimmed()),
        ExpandPart::Operator(operator) => words(*operator).to_owned(),
        ExpandPart::Arrow(arrow) => arrow.to_string(),
        ExpandPart::Tuple(tuple) => tuple.to_string().green().to_string(),
        ExpandPart::Itself(object) => format!("self, {object}"),
        ExpandPart::Nil if matches!(above, Some(ExpandPart::Tuple(_))) => {
            "leads nowhere: its type does not have that".dimmed().to_string()
        }
        ExpandPart::Nil => "nil".to_owned(),
    }
}

fn json_of_step(step: &ExpandStep) -> Value {
    let ExpandStep { depth, part } = step;
    match part {
        ExpandPart::Member(member) => json!({"depth": depth, "step": "member", "member": member.to_string()}),
        ExpandPart::Beyond(member) => json!({"depth": depth, "step": "beyond", "member": member.to_string()}),
        ExpandPart::Repeated(member) => json!({"depth": depth, "step": "repeated", "member": member.to_string()}),
        ExpandPart::Operator(operator) => {
            json!({"depth": depth, "step": "operator", "operator": operator.as_str()})
        }
        ExpandPart::Arrow(arrow) => json!({
            "depth": depth, "step": "arrow", "object": arrow.object.to_string(), "arrow": arrow.to_string(),
        }),
        ExpandPart::Tuple(tuple) => json!({"depth": depth, "step": "tuple", "tuple": tuple.to_string()}),
        ExpandPart::Itself(object) => json!({"depth": depth, "step": "itself", "object": object.to_string()}),
        ExpandPart::Nil => json!({"depth": depth, "step": "nil"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_and_a_permission_come_as_one_or_as_two() {
        let given = |texts: &[&str]| asked(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        for texts in [&["doc:1", "view"][..], &["doc:1#view"]] {
            let (object, permission) = given(texts).unwrap();
            assert_eq!((object.to_string().as_str(), permission.as_str()), ("doc:1", "view"));
        }
        for texts in [&["doc:1"][..], &["doc", "view"], &["doc:1", "View"], &["doc:1#view#edit"]] {
            assert!(given(texts).is_err(), "{texts:?}");
        }
    }
}
