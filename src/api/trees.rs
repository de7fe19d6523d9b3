//! Explain and Expand of `PermissionService`, and their trees on the wire, both ways.
//!
//! INVARIANT: a tree travels as the list it is: a nested message would be cut by the depth that decoders allow. A step that
//! this build does not understand is an error of the reader, never passed over.

use super::convert::{self, Place, Refusal};
use super::convert_acting::{self, to_chain, to_denial};
use super::desk::{Desk, Lane};
use super::permissions::fitting;
use super::status::Failure;
use super::wire::{self, chain_test, expand_step, explain_step, near_miss};
use crate::engine::{ChainTest, ChainTestKind, Expand, Expanded, Explain, Explained, ExplainedChain};
use crate::model::{
    Arrow, ExpandPart, ExpandStep, ExplainPart, ExplainStep, MemberOf, NearMiss, NearMissKind, Operator,
};

/// Levels that Expand shows when it is not told how many.
const LEVELS_DEFAULT: u32 = 1;

pub(super) async fn explain(desk: &Desk, request: wire::ExplainRequest) -> Result<wire::ExplainResponse, Failure> {
    let wire::ExplainRequest { consistency, object, permission, subject, context, contextual_tuples, acting, clock } =
        request;
    let question = convert::question(Place::Message, object, permission, subject)?;
    let situation = convert::situation(consistency, context, contextual_tuples, clock, desk.limits())?;
    let acting = convert_acting::acting(acting)?;
    let explained = desk.run(Lane::Read, move |engine, cancel| {
        let Explained {
            decision,
            missing,
            valid_until,
            steps,
            truncated,
            near_misses,
            near_misses_cut,
            denial,
            chain,
            chains,
            revision,
            historical,
        } = engine.explain(&Explain { question, acting, situation }, cancel)?;
        let (reason, hop) = to_denial(denial);
        let reply = wire::ExplainResponse {
            decision: wire::Decision::from(decision).into(),
            explained_at: Some(engine.token(revision).into()),
            historical,
            missing_context: missing,
            valid_until: valid_until.map(convert::to_timestamp),
            steps: steps.into_iter().map(Into::into).collect(),
            truncated,
            near_misses: near_misses.into_iter().map(Into::into).collect(),
            near_misses_cut,
            reason,
            hop,
            chain: to_chain(chain),
            chains: chains.into_iter().map(Into::into).collect(),
        };
        fitting(reply, engine.limits().message_bytes_max, "use Check, which tells the decision without reasons")
    });
    explained.await
}

pub(super) async fn expand(desk: &Desk, request: wire::ExpandRequest) -> Result<wire::ExpandResponse, Failure> {
    let wire::ExpandRequest { consistency, object, permission, depth, contextual_tuples, clock } = request;
    let asked = Expand {
        object: convert::object(convert::field("object"), object)?,
        permission: convert::relation_name(convert::field("permission"), permission)?,
        levels: if depth == 0 { LEVELS_DEFAULT } else { depth },
        situation: convert::situation(consistency, None, contextual_tuples, clock, desk.limits())?,
    };
    let expanded = desk.run(Lane::Read, move |engine, cancel| {
        let Expanded { steps, revision, historical } = engine.expand(&asked, cancel)?;
        let reply = wire::ExpandResponse {
            expanded_at: Some(engine.token(revision).into()),
            historical,
            steps: steps.into_iter().map(Into::into).collect(),
        };
        fitting(reply, engine.limits().message_bytes_max, "expand fewer levels, or read the tuples of one relation")
    });
    expanded.await
}

// ---- model → wire ----

impl From<MemberOf> for wire::WitnessMember {
    fn from(given: MemberOf) -> wire::WitnessMember {
        let MemberOf { object, member } = given;
        wire::WitnessMember { object: Some((&object).into()), member: member.to_string() }
    }
}

impl From<ExplainedChain> for wire::ExplainedChain {
    fn from(given: ExplainedChain) -> wire::ExplainedChain {
        let ExplainedChain { links, decision, denial, tests } = given;
        let (reason, hop) = to_denial(denial);
        wire::ExplainedChain {
            links: to_chain(links),
            decision: wire::Decision::from(decision).into(),
            reason,
            hop,
            tests: tests.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ChainTest> for wire::ChainTest {
    fn from(given: ChainTest) -> wire::ChainTest {
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
        } = given;
        wire::ChainTest {
            kind: chain_test::Kind::from(kind).into(),
            hop: hop.and_then(|hop| u32::try_from(hop).ok()),
            actor: actor.as_ref().map(Into::into),
            decision: wire::Decision::from(decision).into(),
            reason: wire::DenyReason::from(reason).into(),
            missing_context: missing,
            found,
            failed,
            steps: steps.into_iter().map(Into::into).collect(),
            truncated,
            near_misses: near_misses.into_iter().map(Into::into).collect(),
            near_misses_cut,
        }
    }
}

impl From<ChainTestKind> for chain_test::Kind {
    fn from(kind: ChainTestKind) -> chain_test::Kind {
        match kind {
            ChainTestKind::Expected => chain_test::Kind::Expected,
            ChainTestKind::Link => chain_test::Kind::Link,
            ChainTestKind::State => chain_test::Kind::State,
            ChainTestKind::Scope => chain_test::Kind::Scope,
            ChainTestKind::Active => chain_test::Kind::Active,
            ChainTestKind::Own => chain_test::Kind::Own,
        }
    }
}

impl From<Arrow> for wire::TreeArrow {
    fn from(given: Arrow) -> wire::TreeArrow {
        let Arrow { object, relation, target, every } = given;
        wire::TreeArrow {
            object: Some((&object).into()),
            relation: relation.to_string(),
            target: target.to_string(),
            every,
        }
    }
}

impl From<Operator> for wire::TreeOperator {
    fn from(given: Operator) -> wire::TreeOperator {
        match given {
            Operator::Union => wire::TreeOperator::Union,
            Operator::Intersection => wire::TreeOperator::Intersection,
            Operator::Exclusion => wire::TreeOperator::Exclusion,
        }
    }
}

impl From<ExpandStep> for wire::ExpandStep {
    fn from(step: ExpandStep) -> wire::ExpandStep {
        use expand_step::Part;
        let ExpandStep { depth, part } = step;
        let part = match part {
            ExpandPart::Member(member) => Part::Member(member.into()),
            ExpandPart::Beyond(member) => Part::Beyond(member.into()),
            ExpandPart::Repeated(member) => Part::Repeated(member.into()),
            ExpandPart::Operator(operator) => Part::Operator(wire::TreeOperator::from(operator).into()),
            ExpandPart::Arrow(arrow) => Part::Arrow(arrow.into()),
            ExpandPart::Tuple(tuple) => Part::Tuple((&tuple).into()),
            ExpandPart::Itself(object) => Part::Itself((&object).into()),
            ExpandPart::Nil => Part::Nil(wire::TreeNothing {}),
        };
        wire::ExpandStep { depth, part: Some(part) }
    }
}

impl From<ExplainStep> for wire::ExplainStep {
    fn from(step: ExplainStep) -> wire::ExplainStep {
        use explain_step::Part;
        let ExplainStep { depth, value, failed, subtracted, part } = step;
        let part = match part {
            ExplainPart::Member(member) => Part::Member(member.into()),
            ExplainPart::Repeated(member) => Part::Repeated(member.into()),
            ExplainPart::Operator(operator) => Part::Operator(wire::TreeOperator::from(operator).into()),
            ExplainPart::Arrow(arrow) => Part::Arrow(arrow.into()),
            ExplainPart::Tuple { tuple, missing, failed } => Part::Tuple(wire::ExplainTuple {
                tuple: Some((&tuple).into()),
                missing_context: missing,
                failed: failed.unwrap_or_default(),
            }),
            ExplainPart::Ended(tuple) => Part::Ended((&tuple).into()),
            ExplainPart::Unnamed { subject, admitted } => {
                Part::Unnamed(wire::ExplainUnnamed { subject: Some((&subject).into()), admitted })
            }
            ExplainPart::Empty => Part::Empty(wire::TreeNothing {}),
            ExplainPart::Userset(subject) => Part::Userset((&subject).into()),
            ExplainPart::Itself(object) => Part::Itself((&object).into()),
            ExplainPart::Nil => Part::Nil(wire::TreeNothing {}),
            ExplainPart::Excluded(member) => Part::Excluded(member.into()),
            ExplainPart::More { tuples } => Part::More(tuples),
            ExplainPart::Cut => Part::Cut(wire::TreeNothing {}),
        };
        wire::ExplainStep {
            depth,
            value: value.map(|value| wire::Decision::from(value).into()),
            failed: failed.unwrap_or_default(),
            subtracted,
            part: Some(part),
        }
    }
}

impl From<NearMiss> for wire::NearMiss {
    fn from(near: NearMiss) -> wire::NearMiss {
        let NearMiss { kind, tuple } = near;
        let kind = match kind {
            NearMissKind::Add => near_miss::Kind::Add,
            NearMissKind::Remove => near_miss::Kind::Remove,
        };
        wire::NearMiss { kind: kind.into(), tuple: Some((&tuple).into()) }
    }
}

// ---- wire → model, as the client reads it ----

fn member(place: Place<'_>, message: wire::WitnessMember) -> Result<MemberOf, Refusal> {
    let (object, member) = convert::member(place, message)?;
    Ok(MemberOf { object, member })
}

fn arrow(place: Place<'_>, message: wire::TreeArrow) -> Result<Arrow, Refusal> {
    let wire::TreeArrow { object, relation, target, every } = message;
    Ok(Arrow {
        object: convert::object(place.field("object"), object)?,
        relation: convert::relation_name(place.field("relation"), relation)?,
        target: convert::relation_name(place.field("target"), target)?,
        every,
    })
}

fn operator(place: Place<'_>, given: i32) -> Result<Operator, Refusal> {
    match wire::TreeOperator::try_from(given) {
        Ok(wire::TreeOperator::Union) => Ok(Operator::Union),
        Ok(wire::TreeOperator::Intersection) => Ok(Operator::Intersection),
        Ok(wire::TreeOperator::Exclusion) => Ok(Operator::Exclusion),
        Ok(wire::TreeOperator::Unspecified) => Err(place.missing()),
        Err(_) => Err(convert::unknown_enum(place, given)),
    }
}

pub(super) fn expand_step(place: Place<'_>, message: wire::ExpandStep) -> Result<ExpandStep, Refusal> {
    use expand_step::Part;
    let wire::ExpandStep { depth, part } = message;
    let at = place.field("part");
    let part = match part.ok_or_else(|| at.missing())? {
        Part::Member(message) => ExpandPart::Member(member(at, message)?),
        Part::Beyond(message) => ExpandPart::Beyond(member(at, message)?),
        Part::Repeated(message) => ExpandPart::Repeated(member(at, message)?),
        Part::Operator(given) => ExpandPart::Operator(operator(at, given)?),
        Part::Arrow(message) => ExpandPart::Arrow(arrow(at, message)?),
        Part::Tuple(message) => ExpandPart::Tuple(convert::tuple(at, Some(message))?),
        Part::Itself(message) => ExpandPart::Itself(convert::object(at, Some(message))?),
        Part::Nil(wire::TreeNothing {}) => ExpandPart::Nil,
    };
    Ok(ExpandStep { depth, part })
}

pub(super) fn explain_step(place: Place<'_>, message: wire::ExplainStep) -> Result<ExplainStep, Refusal> {
    use explain_step::Part;
    let wire::ExplainStep { depth, value, failed, subtracted, part } = message;
    let at = place.field("part");
    let part = match part.ok_or_else(|| at.missing())? {
        Part::Member(message) => ExplainPart::Member(member(at, message)?),
        Part::Repeated(message) => ExplainPart::Repeated(member(at, message)?),
        Part::Operator(given) => ExplainPart::Operator(operator(at, given)?),
        Part::Arrow(message) => ExplainPart::Arrow(arrow(at, message)?),
        Part::Tuple(wire::ExplainTuple { tuple, missing_context, failed }) => ExplainPart::Tuple {
            tuple: convert::tuple(at.field("tuple"), tuple)?,
            missing: missing_context,
            failed: (!failed.is_empty()).then_some(failed),
        },
        Part::Ended(message) => ExplainPart::Ended(convert::tuple(at, Some(message))?),
        Part::Unnamed(wire::ExplainUnnamed { subject, admitted }) => {
            ExplainPart::Unnamed { subject: convert::subject(at.field("subject"), subject)?, admitted }
        }
        Part::Empty(wire::TreeNothing {}) => ExplainPart::Empty,
        Part::Userset(message) => ExplainPart::Userset(convert::subject(at, Some(message))?),
        Part::Itself(message) => ExplainPart::Itself(convert::object(at, Some(message))?),
        Part::Nil(wire::TreeNothing {}) => ExplainPart::Nil,
        Part::Excluded(message) => ExplainPart::Excluded(member(at, message)?),
        Part::More(tuples) => ExplainPart::More { tuples },
        Part::Cut(wire::TreeNothing {}) => ExplainPart::Cut,
    };
    let value = value.map(|given| convert::decision(place.field("value"), given)).transpose()?;
    Ok(ExplainStep { depth, value, failed: (!failed.is_empty()).then_some(failed), subtracted, part })
}

pub(super) fn near_miss(place: Place<'_>, message: wire::NearMiss) -> Result<NearMiss, Refusal> {
    let wire::NearMiss { kind, tuple } = message;
    let kind = match near_miss::Kind::try_from(kind) {
        Ok(near_miss::Kind::Add) => NearMissKind::Add,
        Ok(near_miss::Kind::Remove) => NearMissKind::Remove,
        Ok(near_miss::Kind::Unspecified) => return Err(place.field("kind").missing()),
        Err(_) => return Err(convert::unknown_enum(place.field("kind"), kind)),
    };
    Ok(NearMiss { kind, tuple: convert::tuple(place.field("tuple"), tuple)? })
}

/// Each item of a repeated field of a reply.
pub(super) fn each<M, V>(
    name: &'static str,
    messages: Vec<M>,
    one: impl Fn(Place<'_>, M) -> Result<V, Refusal>,
) -> Result<Vec<V>, Refusal> {
    let place = convert::field(name);
    messages.into_iter().enumerate().map(|(index, message)| one(place.item(index), message)).collect()
}

/// A chain of a reply, and its tests.
pub(super) fn explained_chain(place: Place<'_>, given: wire::ExplainedChain) -> Result<ExplainedChain, Refusal> {
    let wire::ExplainedChain { links, decision, reason, hop, tests } = given;
    Ok(ExplainedChain {
        links: convert_acting::chain(place.field("links"), links)?,
        decision: convert::decision(place.field("decision"), decision)?,
        denial: convert_acting::denial(place.field("reason"), (reason, hop))?,
        tests: each("tests", tests, chain_test)?,
    })
}

fn chain_test(place: Place<'_>, given: wire::ChainTest) -> Result<ChainTest, Refusal> {
    let wire::ChainTest {
        kind,
        hop,
        actor,
        decision,
        reason,
        missing_context,
        found,
        failed,
        steps,
        truncated,
        near_misses,
        near_misses_cut,
    } = given;
    let kind = match chain_test::Kind::try_from(kind) {
        Ok(chain_test::Kind::Expected) => ChainTestKind::Expected,
        Ok(chain_test::Kind::Link) => ChainTestKind::Link,
        Ok(chain_test::Kind::State) => ChainTestKind::State,
        Ok(chain_test::Kind::Scope) => ChainTestKind::Scope,
        Ok(chain_test::Kind::Active) => ChainTestKind::Active,
        Ok(chain_test::Kind::Own) => ChainTestKind::Own,
        Ok(chain_test::Kind::Unspecified) => return Err(place.field("kind").missing()),
        Err(_) => return Err(convert::unknown_enum(place.field("kind"), kind)),
    };
    let actor = match actor {
        None => None,
        Some(actor) => Some(convert::object(place.field("actor"), Some(actor))?),
    };
    Ok(ChainTest {
        kind,
        hop: hop.and_then(|hop| usize::try_from(hop).ok()),
        actor,
        decision: convert::decision(place.field("decision"), decision)?,
        reason: convert_acting::reason(place.field("reason"), reason)?
            .ok_or_else(|| place.field("reason").missing())?,
        missing: missing_context,
        found,
        failed,
        steps: each("steps", steps, explain_step)?,
        truncated,
        near_misses: each("near_misses", near_misses, near_miss)?,
        near_misses_cut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decision, RelationName, RelationTuple};

    fn member_of(text: &str) -> MemberOf {
        let (object, member) = text.split_once('#').unwrap();
        MemberOf { object: object.parse().unwrap(), member: RelationName::new(member).unwrap() }
    }

    fn arrow_to(every: bool) -> Arrow {
        let name = |text: &str| RelationName::new(text).unwrap();
        Arrow { object: "doc:1".parse().unwrap(), relation: name("folder"), target: name("view"), every }
    }

    fn a_tuple() -> RelationTuple {
        r#"doc:1#viewer@group:g#member[c:{"x":[1,"a"]}][expiration:2030-01-01T00:00:00Z]"#.parse().unwrap()
    }

    #[test]
    fn every_step_of_an_expansion_survives_the_wire() {
        let parts = [
            ExpandPart::Member(member_of("doc:1#view")),
            ExpandPart::Beyond(member_of("doc:1#view")),
            ExpandPart::Repeated(member_of("doc:1#view")),
            ExpandPart::Operator(Operator::Union),
            ExpandPart::Operator(Operator::Intersection),
            ExpandPart::Operator(Operator::Exclusion),
            ExpandPart::Arrow(arrow_to(true)),
            ExpandPart::Tuple(a_tuple()),
            ExpandPart::Itself("doc:1".parse().unwrap()),
            ExpandPart::Nil,
        ];
        for (depth, part) in (0..).zip(parts) {
            let step = ExpandStep { depth, part };
            assert_eq!(expand_step(convert::field("steps"), step.clone().into()), Ok(step));
        }
    }

    #[test]
    fn every_step_of_an_explanation_survives_the_wire() {
        let subject = || "group:g#member".parse().unwrap();
        let tuple = |missing: &[&str], failed: Option<&str>| ExplainPart::Tuple {
            tuple: a_tuple(),
            missing: missing.iter().map(|field| (*field).to_owned()).collect(),
            failed: failed.map(str::to_owned),
        };
        let parts = [
            ExplainPart::Member(member_of("doc:1#view")),
            ExplainPart::Repeated(member_of("doc:1#view")),
            ExplainPart::Operator(Operator::Exclusion),
            ExplainPart::Arrow(arrow_to(false)),
            tuple(&["ip", "on"], None),
            tuple(&[], Some("division by zero")),
            ExplainPart::Ended(a_tuple()),
            ExplainPart::Unnamed { subject: subject(), admitted: true },
            ExplainPart::Unnamed { subject: subject(), admitted: false },
            ExplainPart::Empty,
            ExplainPart::Userset(subject()),
            ExplainPart::Itself("doc:1".parse().unwrap()),
            ExplainPart::Nil,
            ExplainPart::Excluded(member_of("doc:1#banned")),
            ExplainPart::More { tuples: 0 },
            ExplainPart::Cut,
        ];
        let values = [None, Some(Decision::Allow), Some(Decision::Deny), Some(Decision::Conditional)];
        for (depth, part) in (0..).zip(parts) {
            for value in values {
                let failed = value.is_none().then(|| "division by zero".to_owned());
                let step = ExplainStep { depth, value, failed, subtracted: depth % 2 == 1, part: part.clone() };
                assert_eq!(explain_step(convert::field("steps"), step.clone().into()), Ok(step));
            }
        }
        for kind in [NearMissKind::Add, NearMissKind::Remove] {
            let near = NearMiss { kind, tuple: a_tuple() };
            assert_eq!(near_miss(convert::field("near_misses"), near.clone().into()), Ok(near));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let steps = |message: wire::ExplainStep| {
            let refusal = each("steps", vec![message], explain_step).unwrap_err();
            refusal.field
        };
        assert_eq!(steps(wire::ExplainStep::default()), "steps[0].part");
        let operator = |given: i32| wire::ExplainStep {
            part: Some(explain_step::Part::Operator(given)),
            ..wire::ExplainStep::default()
        };
        assert_eq!((steps(operator(0)), steps(operator(9))), ("steps[0].part".to_owned(), "steps[0].part".to_owned()));
        assert_eq!(steps(wire::ExplainStep { value: Some(0), ..operator(1) }), "steps[0].value");
        let empty = near_miss(convert::field("near_misses"), wire::NearMiss::default());
        assert_eq!(empty.unwrap_err().field, "near_misses.kind");
        assert_eq!(expand_step(convert::field("steps"), wire::ExpandStep::default()).unwrap_err().field, "steps.part");
    }
}
