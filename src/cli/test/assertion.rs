//! One assertion: a question, and then in any order, each at most once, `via ID`, `for ROOT`, `with {JSON}`, `at TIME`.

use crate::cli::input::{Parsed, Strict, json_fault};
use crate::model::{Context, ObjectRef, Question, Timestamp};

/// What an assertion asks, and under what.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    pub question: Question,
    /// By which delegation, as the file calls it.
    pub via: Option<String>,
    /// On whose behalf; with a delegation, where its chain is expected to begin.
    pub root: Option<ObjectRef>,
    /// Values for the parameters of caveats.
    pub context: Context,
    /// The time by which it is judged, instead of the file's.
    pub at: Option<Timestamp>,
}

/// What is wrong with one: the byte offset, the message, and a hint.
pub type Fault = (usize, String, &'static str);

const QUESTION_HINT: &str = "an assertion is `object#permission@subject`, such as `document:plan#view@user:rita`";
const WORDS_HINT: &str = "after the question may stand `via ID`, `for ROOT`, `with {JSON}` and `at TIME`, each once";
const WITH_HINT: &str = "such as `with {\"user_ip\": \"10.2.3.4\"}`";
const VIA_HINT: &str = "such as `via d1`, a delegation of this file";
const FOR_HINT: &str = "such as `for user:rita`";
const AT_HINT: &str = "such as `at 2027-05-01T00:00:00Z`";

/// Reads one; the text has no space around it.
pub fn parse(text: &str) -> Result<Assertion, Fault> {
    let (asked, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let question = Question::parsed(asked).map_err(|error| (error.at, error.message.clone(), QUESTION_HINT))?;
    let (mut context, mut at, mut via, mut root) = (None, None, None, None);
    // Bounded: each turn takes a word.
    loop {
        rest = rest.trim_start();
        let here = text.len() - rest.len();
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let after = after.trim_start();
        let value_at = text.len() - after.len();
        match word {
            "" => break,
            "with" if context.is_some() => return Err((here, "a second `with`".to_owned(), WORDS_HINT)),
            "with" => {
                let (values, used) = json(after).map_err(|(at, message)| (value_at + at, message, WITH_HINT))?;
                context = Some(values);
                rest = after.get(used..).unwrap_or_default();
            }
            "at" if at.is_some() => return Err((here, "a second `at`".to_owned(), WORDS_HINT)),
            "at" => {
                let (instant, behind) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
                at = Some(instant.parse::<Timestamp>().map_err(|message| (value_at, message, AT_HINT))?);
                rest = behind;
            }
            "via" if via.is_some() => return Err((here, "a second `via`".to_owned(), WORDS_HINT)),
            "via" => {
                let (id, behind) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
                if id.is_empty() {
                    return Err((value_at, "`via` needs a delegation".to_owned(), VIA_HINT));
                }
                via = Some(id.to_owned());
                rest = behind;
            }
            "for" if root.is_some() => return Err((here, "a second `for`".to_owned(), WORDS_HINT)),
            "for" => {
                let (named, behind) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
                let object =
                    named.parse::<ObjectRef>().map_err(|error| (value_at + error.at, error.message, FOR_HINT))?;
                root = Some(object);
                rest = behind;
            }
            other => return Err((here, format!("`{other}` may not follow the question"), WORDS_HINT)),
        }
    }
    Ok(Assertion { question, via, root, context: context.unwrap_or_default(), at })
}

/// The JSON object that a text begins with, and the bytes it takes: it ends at its closing brace.
fn json(text: &str) -> Result<(Context, usize), (usize, String)> {
    if !text.starts_with('{') {
        return Err((0, "`with` needs a JSON object".to_owned()));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Strict>();
    match values.next() {
        Some(Ok(Strict(context))) => Ok((context, values.byte_offset())),
        Some(Err(error)) => {
            if error.is_eof() {
                return Err((text.len(), "the `{` of `with` is not closed".to_owned()));
            }
            // Its line counts from 1, its column in bytes from 1; whoever reads the message is shown the place.
            let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let at = (before + error.column().saturating_sub(1)).min(text.len());
            Err((at, format!("the context of `with` cannot be read: {}", json_fault(&error))))
        }
        None => Err((0, "`with` needs a JSON object".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "doc:1#view@user:tom";

    #[track_caller]
    fn fault(text: &str, at: usize, message: &str) {
        let (found_at, found, _) = parse(text).unwrap_err();
        assert!(found.contains(message), "{found}");
        assert_eq!(found_at, at, "{found}");
    }

    #[test]
    fn words_stand_in_any_order() {
        let time = "2027-05-01T00:00:00Z";
        let context = r#"{"user_ip": "10.2.3.4", "of": {"a": "} at "}}"#;
        let both = parse(&format!("{ASKED} with {context} at {time}")).unwrap();
        assert_eq!(parse(&format!("{ASKED}   at  {time}\twith {context}")).unwrap(), both);
        assert_eq!(both.at.unwrap().to_string(), time);
        assert_eq!(both.context["of"]["a"], "} at ");
        // Behind its closing brace another word may follow at once.
        assert_eq!(parse(&format!("{ASKED} with {{}}at {time}")).unwrap().at, both.at);
        let alone = parse(ASKED).unwrap();
        assert_eq!((alone.context.len(), alone.at), (0, None));
        assert_eq!(parse(&format!("{ASKED}#...")).unwrap().question, alone.question);
    }

    #[test]
    fn it_may_say_for_whom() {
        let both = parse(&format!("{ASKED} for user:rita with {{}} via d1")).unwrap();
        assert_eq!(
            (both.via.as_deref(), both.root.map(|root| root.to_string())),
            (Some("d1"), Some("user:rita".into()))
        );
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        fault("doc:1#view", 10, "");
        fault(&format!("{ASKED} when now"), 20, "`when` may not follow");
        fault(&format!("{ASKED} with"), 24, "needs a JSON object");
        fault(&format!("{ASKED} with [1]"), 25, "needs a JSON object");
        fault(&format!("{ASKED} with {{\"a\": 1"), 32, "not closed");
        fault(&format!("{ASKED} with {{\"a\": x}}"), 31, "cannot be read: expected value");
        fault(&format!("{ASKED} with {{\n \"a\": x}}"), 33, "cannot be read: expected value");
        fault(&format!("{ASKED} with {{\"a\": 1, \"a\": 2}}"), 36, "the key `a` stands twice");
        assert!(!parse(&format!("{ASKED} with {{x}}")).unwrap_err().1.contains(" line "));
        fault(&format!("{ASKED} with {{}} with {{}}"), 28, "a second `with`");
        fault(&format!("{ASKED} at noon"), 23, "RFC 3339");
        fault(&format!("{ASKED} at"), 22, "RFC 3339");
        let time = "2027-05-01T00:00:00Z";
        fault(&format!("{ASKED} at {time} at {time}"), 44, "a second `at`");
        fault(&format!("{ASKED} via"), 23, "`via` needs a delegation");
        fault(&format!("{ASKED} via d1 via d2"), 27, "a second `via`");
        fault(&format!("{ASKED} for rita"), 28, "");
        fault(&format!("{ASKED} for user:rita for user:rita"), 34, "a second `for`");
    }
}
