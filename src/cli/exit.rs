//! How a command ends: its exit code, and what it says when it fails.
//!
//! INVARIANT: 0 means that what was asked is so. No failure to ask, to print or to parse ever ends in 0.

use crate::api::client::ClientError;
use crate::engine;
use std::io;
use std::process::ExitCode;

/// The exit codes, as `procura --help` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done; for `check`, allowed.
    Success = 0,
    /// Denied, a failed test, or a schema with findings.
    Negative = 1,
    /// The arguments or an input file are wrong.
    Usage = 2,
    /// At least one answer hangs on context, none is a deny.
    Conditional = 3,
    /// The server or the engine said no.
    Refused = 4,
    /// No answer: worth trying again.
    Unreachable = 5,
    /// The reader of our output went away: the code a shell reports for SIGPIPE.
    ReaderGone = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Nobody reads the output any more; nothing is said.
    ReaderGone,
    Said(Box<Complaint>),
}

/// What is told about a failure, as facts.
#[derive(Debug)]
pub struct Complaint {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
    /// Blocks with source lines and carets, printed in place of `message` when there are any.
    pub pointed: Vec<String>,
    /// The gRPC code and the stable reason, where a server or engine spoke.
    pub code: Option<(String, String)>,
    pub facts: Vec<(String, String)>,
}

impl Failure {
    /// The arguments or an input are wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Something ends this command with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure::Said(Box::new(Complaint {
            exit,
            message: message.into(),
            hint: None,
            pointed: Vec::new(),
            code: None,
            facts: Vec::new(),
        }))
    }

    /// What may help, on a line of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        if let Failure::Said(complaint) = &mut self {
            complaint.hint = Some(hint.into());
        }
        self
    }

    /// A fact by name, for machines as for people.
    #[must_use]
    pub fn with_fact(mut self, key: &str, value: impl Into<String>) -> Failure {
        if let Failure::Said(complaint) = &mut self {
            complaint.facts.push((key.to_owned(), value.into()));
        }
        self
    }

    /// The places that are wrong, each rendered with its caret.
    #[must_use]
    pub fn with_pointed(mut self, pointed: Vec<String>) -> Failure {
        if let Failure::Said(complaint) = &mut self {
            complaint.pointed = pointed;
        }
        self
    }

    /// A file could not be read or written.
    pub fn file(path: &std::path::Path, error: &io::Error) -> Failure {
        Failure::usage(format!("`{}`: {error}", path.display()))
    }
}

/// Only for writing to standard output; files go through [`Failure::file`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ReaderGone;
        }
        Failure::new(Exit::Refused, format!("cannot write to standard output: {error}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = if error.code == "UNAVAILABLE" { Exit::Unreachable } else { Exit::Refused };
        let (hints, facts): (Vec<_>, Vec<_>) = error.facts.into_iter().partition(|(key, _)| key == "hint");
        Failure::Said(Box::new(Complaint {
            exit,
            message: error.message,
            hint: hints.into_iter().next().map(|(_, hint)| hint),
            pointed: error.diagnostics.into_iter().map(|diagnostic| diagnostic.rendered).collect(),
            code: Some((error.code.to_owned(), error.reason)),
            facts,
        }))
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Failure {
        Failure::Said(Box::new(Complaint {
            exit: Exit::Refused,
            // Whoever runs the engine may know what the wire keeps to itself.
            message: match &error.detail {
                Some(detail) => format!("{}: {detail}", error.message),
                None => error.message.clone(),
            },
            hint: error.hint.clone(),
            pointed: error.diagnostics.iter().map(|diagnostic| diagnostic.rendered.clone()).collect(),
            code: Some((String::new(), error.reason.to_owned())),
            facts: error.facts.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_never_success_and_never_noise() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(failure, Failure::ReaderGone));
        assert!(matches!(Failure::from(io::Error::other("disk")), Failure::Said(_)));
    }

    #[test]
    fn a_server_that_is_away_is_told_from_one_that_refuses() {
        for (code, exit) in [("UNAVAILABLE", Exit::Unreachable), ("FAILED_PRECONDITION", Exit::Refused)] {
            let error = ClientError {
                code,
                reason: "R".into(),
                message: "m".into(),
                facts: vec![("hint".into(), "h".into()), ("field".into(), "f".into())],
                diagnostics: Vec::new(),
            };
            let Failure::Said(complaint) = Failure::from(error) else { panic!("said nothing") };
            assert_eq!(complaint.exit, exit);
            assert_eq!(complaint.hint.as_deref(), Some("h"));
            assert_eq!(complaint.facts, [("field".to_owned(), "f".to_owned())]);
        }
    }
}
