//! `procura check`: one question or many, and the answer as an exit code.
//!
//! INVARIANT: the exit code is 0 only when every question was answered with ALLOW.

use super::acting::{ActingFor, add_json, chain_text, denial_text};
use super::exit::{Exit, Failure};
use super::input::{Item, read_items};
use super::output::{Output, decision as coloured};
use super::reach::{Given, Server, When, note_context};
use super::{explain, witness};
use crate::api::client::{Ask, At, Checked, Client, ClientError, Said, Under};
use crate::model::{Acting, Decision, Limits, Question};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  procura check 'project:alpha#edit@user:dana'
  procura check 'project:alpha#edit@user:dana' --explain
  procura check 'project:alpha#edit@user:dana' --explain=line
  procura check 'project:alpha#edit@user:dana' 'project:beta#edit@user:dana'
  procura check 'doc:1#view@user:dana' --context '{\"user_ip\": \"10.1.2.3\"}'
  procura check 'invoice:9#read@agent:support_bot' --via dlg_1f0c…
  procura check 'invoice:9#read@agent:support_bot' --for user:rita
  procura check --file questions.txt --json        one per line, // comments

  if procura check 'project:alpha#delete@user:dana' >/dev/null; then …

Several questions are answered at one revision.
Exit codes: 0 all ALLOW, 1 some DENY, 3 some CONDITIONAL and none DENY,
4 some could not be answered.";

/// Denied questions that are explained, each with a call of its own.
const DENIES_EXPLAINED_MAX: usize = 20;

/// Ask whether a subject has a permission on an object
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// OBJECT#PERMISSION@SUBJECT; or a file of questions (an argument without `#`), or `-`
    #[arg(value_name = "QUESTION", required_unless_present = "file")]
    questions: Vec<String>,
    /// A file with one question per line, `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show one path by which an answer is ALLOW: as a tree, or with `=line` in one line. Of a DENY, show what takes the
    /// permission away, if it is that
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "tree")]
    explain: Option<Shown>,
    #[command(flatten)]
    acting: ActingFor,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shown {
    Tree,
    Line,
}

type Answer = Result<Said, ClientError>;

impl Check {
    /// Asks, prints one line per question in the order given, and folds the answers into the exit code.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let items: Vec<Item<Question>> = read_items(&self.questions, self.file.as_deref())?;
        let questions_max = Limits::default().bulk_items_max;
        if items.len() > questions_max {
            return Err(Failure::usage(format!(
                "{} questions, but one call answers at most {questions_max}, all at one revision",
                items.len()
            ))
            .with_hint("split the file; give the token of the first part as --at-exact-snapshot to the others"));
        }
        let questions: Vec<Question> = items.into_iter().map(|item| item.value).collect();
        if questions.is_empty() {
            return Err(Failure::usage("no question: the input holds only blank lines and comments"));
        }
        let under = self.given.under(&self.when)?;
        let ask = Ask { under, acting: self.acting.acting()?, explain: self.explain.is_some() };
        let client = self.server.connect()?;
        note_context(&client, &ask.under, output);
        let (answers, token, historical): (Vec<Answer>, String, bool) = match questions.as_slice() {
            [question] => {
                let Checked { decision, token, historical, witness, missing, valid_until, denial, chain } =
                    client.check_under(question, &ask)?;
                let said = Said { decision, witness, missing, valid_until, denial, chain };
                (vec![Ok(said)], token, historical)
            }
            questions => {
                let checked = client.check_bulk_under(questions, &ask)?;
                (checked.answers, checked.token, checked.historical)
            }
        };
        if answers.len() != questions.len() {
            return Err(Failure::new(
                Exit::Refused,
                format!("the server answered {} of {} questions", answers.len(), questions.len()),
            ));
        }
        let mut explained = 0;
        for (question, answer) in questions.iter().zip(&answers) {
            // Why a chain denies is said with the answer.
            let is_denied = answer.as_ref().is_ok_and(|said| said.decision == Decision::Deny && said.denial.is_none());
            let denied = match self.explain {
                Some(_) if is_denied && explained < DENIES_EXPLAINED_MAX => {
                    explained += 1;
                    denied(&client, question, &ask.under, &token)
                }
                Some(_) | None => None,
            };
            self.print(question, answer, denied.as_ref(), (&token, historical), output)?;
        }
        if historical {
            output.note("this answer is historical: newer revisions exist");
        }
        Ok(folded(&answers))
    }

    fn print(
        &self,
        question: &Question,
        answer: &Answer,
        denied: Option<&Denied>,
        (token, historical): (&str, bool),
        output: &mut Output,
    ) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(output.value(&json_of(question, answer, denied, (token, historical)))?);
        }
        let asked = text_of(question);
        match answer {
            Ok(Said { decision, witness: found, missing, valid_until, denial, chain }) => {
                output.line(format_args!("{} {asked}", coloured(*decision)))?;
                if !chain.is_empty() {
                    output.line(format_args!("  for {}", chain_text(chain)))?;
                }
                if let Some(denial) = denial {
                    output.line(format_args!("  {}", denial_text(denial)))?;
                }
                if !missing.is_empty() {
                    output.line(format_args!("  needs --context with {}", missing.join(", ")))?;
                }
                if let Some(end) = valid_until {
                    output.line(format_args!("  until {end} at least"))?;
                }
                match (self.explain, decision, found) {
                    (Some(Shown::Tree), Decision::Allow, Some(found)) => output.line(witness::tree(found, "  "))?,
                    (Some(Shown::Line), Decision::Allow, Some(found)) => {
                        output.line(format_args!("  because {}", witness::line(found)))?;
                    }
                    (Some(_), Decision::Deny, _) if denial.is_some() => {}
                    (Some(_), Decision::Deny, _) => {
                        for line in denied_lines(denied) {
                            output.line(format_args!("  {line}"))?;
                        }
                    }
                    (Some(_), Decision::Allow | Decision::Conditional, _) | (None, _, _) => {}
                }
            }
            Err(error) => {
                output.line(format_args!("ERROR {asked}"))?;
                output.line(format_args!("  {} [{} {}]", error.message, error.code, error.reason))?;
                if let Some(hint) = error.fact("hint") {
                    output.line(format_args!("  hint: {hint}"))?;
                }
            }
        }
        Ok(())
    }
}

/// Why a question is denied: what takes away what the rest would give, each with tuples by which it holds. Empty where
/// nothing does.
type Denied = Vec<(String, Vec<String>)>;

/// Asks why, at the revision of the answer. `None` where that cannot be told of that very answer.
fn denied(client: &Client, question: &Question, under: &Under, token: &str) -> Option<Denied> {
    let under = Under { at: At::AtExactSnapshot(token.to_owned()), ..under.clone() };
    let explained = client.explain(question, &Acting::default(), &under).ok()?;
    let taken_away = explain::taken_away(&explained.steps);
    let is_told = !taken_away.is_empty() || !explained.truncated;
    (explained.decision == Decision::Deny && is_told).then_some(taken_away)
}

fn denied_lines(denied: Option<&Denied>) -> Vec<String> {
    match denied {
        None => vec!["because no path allows it, or something takes it away: `procura explain` tells".to_owned()],
        Some(taken_away) if taken_away.is_empty() => vec!["because no path allows it".to_owned()],
        Some(taken_away) => explain::taken_away_lines(taken_away),
    }
}

/// An error outweighs a deny, a deny a condition, a condition an allow.
fn folded(answers: &[Answer]) -> Exit {
    let has = |wanted: Decision| answers.iter().flatten().any(|said| said.decision == wanted);
    if answers.iter().any(Result::is_err) || answers.is_empty() {
        Exit::Refused
    } else if has(Decision::Deny) {
        Exit::Negative
    } else if has(Decision::Conditional) {
        Exit::Conditional
    } else {
        Exit::Success
    }
}

fn text_of(question: &Question) -> String {
    format!("{}#{}@{}", question.object, question.permission, question.subject)
}

fn json_of(question: &Question, answer: &Answer, denied: Option<&Denied>, (token, historical): (&str, bool)) -> Value {
    let question = text_of(question);
    match answer {
        Ok(Said { decision, witness: found, missing, valid_until, denial, chain }) => {
            let mut json = json!({
                "question": question,
                "decision": decision.as_str(),
                "token": token,
                "historical": historical,
                "witness": found.as_ref().map(witness::json),
                "taken_away": denied.map(|taken_away| explain::taken_away_json(taken_away)),
                "missing_context": missing,
                "valid_until": valid_until.map(|end| end.to_string()),
            });
            add_json(&mut json, denial.as_ref(), chain);
            json
        }
        Err(error) => json!({
            "question": question,
            "error": {
                "code": error.code,
                "reason": error.reason,
                "message": error.message,
                "hint": error.fact("hint"),
            },
            "token": token,
            "historical": historical,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_allow_is_success() {
        let said = |decision| {
            Ok(Said {
                decision,
                witness: None,
                missing: Vec::new(),
                valid_until: None,
                denial: None,
                chain: Vec::new(),
            })
        };
        let allow = || said(Decision::Allow);
        let deny = || said(Decision::Deny);
        let conditional = || said(Decision::Conditional);
        let error = || {
            Err(ClientError {
                code: "FAILED_PRECONDITION",
                reason: String::new(),
                message: String::new(),
                facts: Vec::new(),
                diagnostics: Vec::new(),
            })
        };
        assert_eq!(folded(&[allow(), allow()]), Exit::Success);
        assert_eq!(folded(&[allow(), conditional()]), Exit::Conditional);
        assert_eq!(folded(&[conditional(), deny(), allow()]), Exit::Negative);
        assert_eq!(folded(&[deny(), error(), allow()]), Exit::Refused);
        assert_eq!(folded(&[]), Exit::Refused);
    }
}
