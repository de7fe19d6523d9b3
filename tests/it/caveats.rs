//! The conditions the oracle knows: five caveats, evaluated here by hand, three-valued, printed as text for the engine.
//!
//! INVARIANT: like the oracle it shares no code with the engine. What a caveat says hangs on the stored values, then on
//! the request's; a parameter that is in neither is missing only where it could still decide.

use crate::oracle::{Flip, Truth};
use std::collections::BTreeMap;

/// A caveat of the oracle's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caveat {
    Level,
    Flag,
    Divides,
    Among,
    Either,
}

/// A value of a context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Int(i64),
    Bool(bool),
    Text(&'static str),
    List(Vec<&'static str>),
}

/// Values by parameter.
pub type Given = BTreeMap<&'static str, Value>;

/// A caveat with what is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    pub caveat: Caveat,
    pub stored: Given,
}

/// Parameters as a set, one bit each in the order of [`PARAMETERS`].
pub type Names = u8;

/// Every parameter there is, sorted.
pub const PARAMETERS: [&str; 6] = ["allowed", "by", "have", "need", "on", "who"];

pub fn names_of<'a>(parameters: impl IntoIterator<Item = &'a str>) -> Names {
    let bit = |name| PARAMETERS.iter().position(|known| *known == name).expect("a parameter of the oracle's");
    parameters.into_iter().fold(0, |names, name| names | 1 << bit(name))
}

pub fn names_told(names: Names) -> String {
    let named = (0..PARAMETERS.len()).filter(|bit| names & (1 << bit) != 0).map(|bit| PARAMETERS[bit]);
    named.collect::<Vec<_>>().join(",")
}

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Holds,
    Not,
    /// These could still decide it.
    Missing(Names),
    Failed,
}

impl Outcome {
    /// What the row is worth while combining.
    pub fn worth(self, flip: Flip) -> Truth {
        match self {
            Outcome::Holds => Truth::Allow,
            Outcome::Not => Truth::Deny,
            Outcome::Failed if flip == Flip::FailureIsDeny => Truth::Deny,
            Outcome::Missing(_) | Outcome::Failed => Truth::Conditional,
        }
    }
}

/// A parameter's value as its type, or why there is none.
enum Read<V> {
    Is(V),
    Absent,
    Wrong,
}

impl Caveat {
    pub const ALL: [Caveat; 5] = [Caveat::Level, Caveat::Flag, Caveat::Divides, Caveat::Among, Caveat::Either];

    pub fn name(self) -> &'static str {
        match self {
            Caveat::Level => "level",
            Caveat::Flag => "flag",
            Caveat::Divides => "divides",
            Caveat::Among => "among",
            Caveat::Either => "either",
        }
    }

    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Caveat::Level => &["have", "need"],
            Caveat::Flag => &["on"],
            Caveat::Divides => &["by"],
            Caveat::Among => &["allowed", "who"],
            Caveat::Either => &["have", "on"],
        }
    }

    /// What follows its name in a schema.
    pub fn body(self) -> &'static str {
        match self {
            Caveat::Level => "(have int, need int) { have >= need }",
            Caveat::Flag => "(on bool) { on }",
            Caveat::Divides => "(by int) { 10 / by > 1 }",
            Caveat::Among => "(who string, allowed list<string>) { who in allowed }",
            Caveat::Either => "(on bool, have int) { on || have > 3 }",
        }
    }
}

impl Condition {
    pub fn evaluate(&self, request: &Given, flip: Flip) -> Outcome {
        let value = |name: &str| {
            let (first, second) =
                if flip == Flip::RequestWinsOverStored { (request, &self.stored) } else { (&self.stored, request) };
            first.get(name).or_else(|| second.get(name))
        };
        let int = |name| match value(name) {
            Some(Value::Int(int)) => Read::Is(*int),
            Some(_) => Read::Wrong,
            None => Read::Absent,
        };
        let bool = |name| match value(name) {
            Some(Value::Bool(bool)) => Read::Is(*bool),
            Some(_) => Read::Wrong,
            None => Read::Absent,
        };
        let said = |holds: bool| if holds { Outcome::Holds } else { Outcome::Not };
        let missing = |name: &str| Outcome::Missing(names_of([name]));
        match self.caveat {
            Caveat::Level => match (int("have"), int("need")) {
                (Read::Is(have), Read::Is(need)) => said(have >= need),
                (Read::Absent, Read::Absent) => Outcome::Missing(names_of(["have", "need"])),
                (Read::Absent, _) => missing("have"),
                (_, Read::Absent) => missing("need"),
                (Read::Wrong, _) | (_, Read::Wrong) => Outcome::Failed,
            },
            Caveat::Flag => match bool("on") {
                Read::Is(on) => said(on),
                Read::Absent => missing("on"),
                Read::Wrong => Outcome::Failed,
            },
            Caveat::Divides => match int("by") {
                Read::Is(0) | Read::Wrong => Outcome::Failed,
                Read::Is(by) => said(10 / by > 1),
                Read::Absent => missing("by"),
            },
            Caveat::Among => match (value("who"), value("allowed")) {
                (Some(Value::Text(who)), Some(Value::List(allowed))) => said(allowed.contains(who)),
                // Nobody is in an empty list, but that is not looked at before it is known who.
                (None, None) => Outcome::Missing(names_of(["allowed", "who"])),
                (None, Some(_)) => missing("who"),
                (Some(_), None) => missing("allowed"),
                (Some(_), Some(_)) => Outcome::Failed,
            },
            Caveat::Either => {
                let above = match int("have") {
                    Read::Is(have) => Read::Is(have > 3),
                    Read::Absent => Read::Absent,
                    Read::Wrong => Read::Wrong,
                };
                match (bool("on"), above) {
                    (Read::Is(true), _) | (_, Read::Is(true)) => Outcome::Holds,
                    (Read::Is(false), Read::Is(false)) => Outcome::Not,
                    (Read::Absent, Read::Absent) => Outcome::Missing(names_of(["have", "on"])),
                    (Read::Absent, _) => missing("on"),
                    (_, Read::Absent) => missing("have"),
                    (Read::Wrong, _) | (_, Read::Wrong) => Outcome::Failed,
                }
            }
        }
    }
}

#[test]
fn conditions_by_hand() {
    let given = |pairs: &[(&'static str, Value)]| pairs.iter().cloned().collect::<Given>();
    let (three, text, yes) = (Value::Int(3), Value::Text("3x"), Value::Bool(true));
    let level = Condition { caveat: Caveat::Level, stored: given(&[("need", three.clone())]) };
    let said =
        |condition: &Condition, request: &[(&'static str, Value)]| condition.evaluate(&given(request), Flip::None);
    assert_eq!(said(&level, &[]), Outcome::Missing(names_of(["have"])));
    assert_eq!(said(&level, &[("have", three.clone()), ("need", Value::Int(4))]), Outcome::Holds);
    assert_eq!(said(&level, &[("have", Value::Int(2))]), Outcome::Not);
    assert_eq!(said(&level, &[("have", text.clone())]), Outcome::Failed);
    let either = Condition { caveat: Caveat::Either, stored: given(&[]) };
    assert_eq!(said(&either, &[("on", yes), ("have", text.clone())]), Outcome::Holds);
    assert_eq!(said(&either, &[("have", text)]), Outcome::Missing(names_of(["on"])));
    assert_eq!(said(&either, &[("have", three)]), Outcome::Missing(names_of(["on"])));
    assert_eq!(names_told(names_of(["who", "have"])), "have,who");
    let by = |by| said(&Condition { caveat: Caveat::Divides, stored: given(&[("by", Value::Int(by))]) }, &[]);
    assert_eq!([by(0), by(3), by(10)], [Outcome::Failed, Outcome::Holds, Outcome::Not]);
}
