//! Expand: what is a permission made of on an object, and which tuples stand in it? Nobody is asked about.

use super::resolve::Resolver;
use super::situation::{Situation, Standing};
use super::{Engine, Error};
use crate::model::{Cancel, ExpandPart, ExpandStep, ObjectRef, RelationName, Revision};
use crate::walk::{Budget, Extent, Node, Structure, expand};

/// What is expanded.
#[derive(Debug, Clone)]
pub struct Expand {
    pub object: ObjectRef,
    /// A permission or relation of the object's definition.
    pub permission: RelationName,
    /// Levels of objects shown: 1 is the object asked about, 2 also what its usersets and arrows lead to, and so on.
    pub levels: u32,
    /// Its context says nothing here: caveats are shown, not judged.
    pub situation: Situation,
}

/// The structure, and the revision it holds at.
#[derive(Debug, Clone)]
pub struct Expanded {
    pub steps: Vec<ExpandStep>,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

impl Engine {
    /// Expands a permission or relation. More than `expand_steps_max` steps are `RESOURCE_EXHAUSTED`, never a part that
    /// looks whole.
    pub fn expand(&self, request: &Expand, cancel: &Cancel) -> Result<Expanded, Error> {
        let Expand { object, permission, levels, situation } = request;
        let standing = self.stand(situation, cancel)?;
        let Standing { in_force, view, newest: _, historical, transient } = &standing;
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let root = resolver.asked_node(object, permission)?;
        let extent = Extent { levels: *levels, steps_max: self.limits.expand_steps_max };
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let found = expand(&in_force.plan, view, root, extent, &mut budget).map_err(|error| resolver.told(error))?;
        let steps = found.into_iter().map(|(depth, step)| Ok(ExpandStep { depth, part: named(&resolver, step)? }));
        Ok(Expanded {
            steps: steps.collect::<Result<_, Error>>()?,
            revision: standing.revision(),
            historical: *historical,
        })
    }
}

fn named(resolver: &Resolver<'_>, step: Structure<'_>) -> Result<ExpandPart, Error> {
    Ok(match step {
        Structure::Member(node) => ExpandPart::Member(resolver.member_of(node)?),
        Structure::Beyond(node) => ExpandPart::Beyond(resolver.member_of(node)?),
        Structure::Repeated(node) => ExpandPart::Repeated(resolver.member_of(node)?),
        Structure::Operator(operator) => ExpandPart::Operator(operator),
        Structure::Arrow { relation, object, targets, quantifier } => {
            ExpandPart::Arrow(resolver.arrow(Node { member: relation, object }, targets, quantifier)?)
        }
        Structure::Row(key, value) => ExpandPart::Tuple(resolver.tuple(&key, &value)?),
        Structure::Itself(node) => ExpandPart::Itself(resolver.object_of(node)?),
        Structure::Nil => ExpandPart::Nil,
    })
}
