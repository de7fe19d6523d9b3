//! Showing a witness: as an indented tree, as one line, as JSON.

use crate::model::{Step, Witness};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

/// The steps in reading order, each under the one it explains. Every line starts with `indent`.
pub fn tree(witness: &Witness, indent: &str) -> String {
    let lines: Vec<String> = witness
        .steps
        .iter()
        .map(|step| {
            let (depth, text) = match step {
                Step::Member { depth, object, member } => (*depth, format!("{object}#{member}, because")),
                Step::Tuple { depth, tuple } => (*depth, tuple.to_string().green().to_string()),
                Step::Itself { depth, subject } => (*depth, format!("{subject} is itself")),
                Step::Excluded { depth, object, permission } => (*depth, format!("not {object}#{permission}")),
            };
            format!("{indent}{}{text}", "  ".repeat(shown_depth(depth)))
        })
        .collect();
    lines.join("\n")
}

/// Deeper levels all stand in one column: a path a hundred thousand levels deep must not print a square.
fn shown_depth(depth: u32) -> usize {
    const DEPTH_SHOWN_MAX: u32 = 40;
    depth.min(DEPTH_SHOWN_MAX) as usize
}

/// The tuples of the path in one line, and what it depends on that is not so.
pub fn line(witness: &Witness) -> String {
    let mut text = String::new();
    for step in &witness.steps {
        let (joint, fact) = match step {
            Step::Member { .. } => continue,
            Step::Tuple { tuple, .. } => (" → ", tuple.to_string()),
            Step::Itself { subject, .. } => (" → ", format!("{subject} is itself")),
            // It leads nowhere, it only must not hold.
            Step::Excluded { object, permission, .. } => (", ", format!("not {object}#{permission}")),
        };
        if !text.is_empty() {
            text.push_str(joint);
        }
        text.push_str(&fact);
    }
    text
}

/// An array of steps, in reading order.
pub fn json(witness: &Witness) -> Value {
    let step_json = |step: &Step| match step {
        Step::Member { depth, object, member } => {
            json!({"step": "member", "depth": depth, "object": object.to_string(), "member": member.as_str()})
        }
        Step::Tuple { depth, tuple } => json!({"step": "tuple", "depth": depth, "tuple": tuple.to_string()}),
        Step::Itself { depth, subject } => json!({"step": "itself", "depth": depth, "subject": subject.to_string()}),
        Step::Excluded { depth, object, permission } => {
            json!({"step": "excluded", "depth": depth, "object": object.to_string(), "permission": permission.as_str()})
        }
    };
    witness.steps.iter().map(step_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelationName;

    fn witness() -> Witness {
        let name = |text: &str| RelationName::new(text).unwrap();
        let steps = vec![
            Step::Member { depth: 0, object: "project:alpha".parse().unwrap(), member: name("view") },
            Step::Tuple { depth: 1, tuple: "project:alpha#workspace@workspace:lab".parse().unwrap() },
            Step::Tuple { depth: 1, tuple: "workspace:lab#member@user:dana".parse().unwrap() },
            Step::Excluded { depth: 1, object: "project:alpha".parse().unwrap(), permission: name("banned") },
        ];
        Witness { steps }
    }

    #[test]
    fn a_path_reads_as_a_tree_and_as_a_line() {
        let tree = anstream::adapter::strip_str(&tree(&witness(), "  ")).to_string();
        assert_eq!(
            tree,
            "  project:alpha#view, because\n    project:alpha#workspace@workspace:lab\n\
             \x20   workspace:lab#member@user:dana\n    not project:alpha#banned"
        );
        assert_eq!(
            line(&witness()),
            "project:alpha#workspace@workspace:lab → workspace:lab#member@user:dana, not project:alpha#banned"
        );
        assert_eq!(json(&witness())[1]["tuple"], "project:alpha#workspace@workspace:lab");
    }

    #[test]
    fn a_very_deep_path_stays_narrow() {
        let step = Step::Tuple { depth: u32::MAX, tuple: "doc:1#viewer@user:rita".parse().unwrap() };
        assert!(tree(&Witness { steps: vec![step] }, "").len() < 200);
    }
}
