//! `permission q: T | U = …` under `use typechecking`: whom a permission can hold for at all is within what is written.
//!
//! What can be is found by which types of object may stand at the end of the tuples that lead there: a union may hold
//! for the types of any operand, an intersection for those of all, an exclusion for those of its base. That is never
//! too little, whatever the data.
//!
//! INVARIANT: nothing is looked at that no annotation leads to, and the work is bounded by `schema_type_steps_max`.

use super::ast::{self, ExprKind, Form, MemberKind, Operator};
use super::compile::{Found, Scopes};
use super::diagnostic::Diagnostic;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// Types shown in one error.
const SHOWN_MAX: usize = 8;

/// Every annotated permission that may hold for a type its annotation lacks.
pub(super) fn annotations(scopes: &Scopes<'_>, steps_max: usize) -> Vec<Diagnostic> {
    let mut graph = Graph::default();
    let mut annotated = BTreeMap::new();
    for (index, scope) in scopes.definitions.iter().enumerate() {
        for member in &scope.block.members {
            if let MemberKind::Permission { name, annotation: Some(types), .. } = &member.kind {
                annotated.insert(graph.member(index, &name.text), (name, types));
            }
        }
    }
    let Some(first) = annotated.values().next().map(|(_, types)| span_of(types)) else {
        return Vec::new();
    };
    let Some(held) = graph.close(scopes, steps_max) else {
        let message = format!("the types of permissions take more than {steps_max} steps to check");
        let hint = "annotate fewer permissions, or let them lean on fewer types";
        return vec![Diagnostic::error("too-long", first, message).with_hint(hint)];
    };
    let mut reached: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (node, of) in held {
        if annotated.contains_key(&node) {
            reached.entry(node).or_default().insert(of);
        }
    }
    let mut errors = Vec::new();
    for (node, types) in &reached {
        let Some((name, annotation)) = annotated.get(node) else {
            continue;
        };
        let written: HashSet<usize> =
            annotation.iter().filter_map(|name| scopes.by_name.get(name.text.as_str()).copied()).collect();
        let beyond: Vec<String> = types
            .iter()
            .filter(|of| !written.contains(of))
            .filter_map(|of| scopes.definitions.get(*of))
            .map(|scope| format!("`{}`", scope.block.name.text))
            .collect();
        if beyond.is_empty() {
            continue;
        }
        let more = if beyond.len() > SHOWN_MAX { ", …" } else { "" };
        let shown = beyond.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
        let message = format!("permission `{}` may hold for {shown}{more}, beyond the types it names", name.text);
        let hint = "name them too, or leave out what leads to them";
        errors.push(Diagnostic::error("type-annotation", span_of(annotation), message).with_hint(hint));
    }
    errors
}

fn span_of(types: &[ast::Name]) -> Range<usize> {
    match (types.first(), types.last()) {
        (Some(first), Some(last)) => first.span.0.start..last.span.0.end.max(first.span.0.end),
        (None, _) | (_, None) => 0..0,
    }
}

/// A node holds for a type when `needed` of its edges in do.
#[derive(Default)]
struct Node {
    needed: u32,
    /// Nodes that lean on this one.
    out: Vec<usize>,
}

#[derive(Default)]
struct Graph<'a> {
    nodes: Vec<Node>,
    members: HashMap<(usize, &'a str), usize>,
    arrows: HashMap<(usize, &'a str, &'a str), usize>,
    /// Members that were named and not yet looked into.
    open: Vec<(usize, &'a str)>,
    /// What holds to begin with: a node, and a type by its definition's index.
    seeds: Vec<(usize, usize)>,
    steps: usize,
}

impl<'a> Graph<'a> {
    fn node(&mut self, needed: u32) -> usize {
        self.nodes.push(Node { needed, out: Vec::new() });
        self.nodes.len() - 1
    }

    fn member(&mut self, definition: usize, name: &'a str) -> usize {
        if let Some(known) = self.members.get(&(definition, name)) {
            return *known;
        }
        let node = self.node(1);
        self.members.insert((definition, name), node);
        self.open.push((definition, name));
        node
    }

    fn link(&mut self, from: usize, to: usize) {
        self.steps += 1;
        if let Some(node) = self.nodes.get_mut(from) {
            node.out.push(to);
        }
    }

    /// Everything that holds; `None` when finding it takes too many steps.
    fn close(&mut self, scopes: &Scopes<'a>, steps_max: usize) -> Option<HashSet<(usize, usize)>> {
        // Bounded: every member is looked into once.
        while let Some((definition, name)) = self.open.pop() {
            let node = self.member(definition, name);
            match scopes.definitions.get(definition).and_then(|scope| scope.found(name)) {
                Some(Found::Relation(subjects)) => self.subjects(scopes, node, subjects),
                Some(Found::Permission(expr)) => {
                    let of = self.expr(scopes, definition, expr);
                    self.link(of, node);
                }
                None => {}
            }
            if self.steps > steps_max {
                return None;
            }
        }
        let mut held: HashSet<(usize, usize)> = HashSet::new();
        let mut counts: HashMap<(usize, usize), u32> = HashMap::new();
        let mut queue = std::mem::take(&mut self.seeds);
        queue.retain(|fact| held.insert(*fact));
        // Bounded: every node is taken up once for each type, and the edges it then passes on are counted.
        while let Some((node, of)) = queue.pop() {
            let out = self.nodes.get(node).map(|node| node.out.as_slice()).unwrap_or_default();
            self.steps += 1 + out.len();
            if self.steps > steps_max {
                return None;
            }
            for to in out {
                let needed = self.nodes.get(*to).map_or(1, |node| node.needed);
                let is_enough = needed == 1 || {
                    let count = counts.entry((*to, of)).or_insert(0);
                    *count += 1;
                    *count == needed
                };
                if is_enough && held.insert((*to, of)) {
                    queue.push((*to, of));
                }
            }
        }
        Some(held)
    }

    fn subjects(&mut self, scopes: &Scopes<'a>, node: usize, subjects: &'a [ast::Subject]) {
        for subject in subjects {
            let Some(of) = scopes.by_name.get(subject.subject_type.text.as_str()).copied() else {
                continue;
            };
            match &subject.form {
                Form::Object | Form::Wildcard => self.seeds.push((node, of)),
                Form::Userset(name) => {
                    let member = self.member(of, &name.text);
                    self.link(member, node);
                }
            }
        }
    }

    /// The node of an expression. Recursion is bounded by the parser.
    fn expr(&mut self, scopes: &Scopes<'a>, definition: usize, expr: &'a ast::Expr) -> usize {
        match &expr.kind {
            ExprKind::Nil => self.node(1),
            ExprKind::SelfSubject => {
                let node = self.node(1);
                self.seeds.push((node, definition));
                node
            }
            ExprKind::Name(name) => self.member(definition, &name.text),
            ExprKind::Arrow { relation, target, .. } => self.arrow(scopes, definition, &relation.text, &target.text),
            ExprKind::Paren(inner) => self.expr(scopes, definition, inner),
            ExprKind::Chain { operator: Operator::Exclusion, operands } => match operands.first() {
                Some(base) => self.expr(scopes, definition, base),
                None => self.node(1),
            },
            ExprKind::Chain { operator, operands } => {
                let needed = match operator {
                    Operator::Intersection => u32::try_from(operands.len()).unwrap_or(u32::MAX),
                    Operator::Union | Operator::Exclusion => 1,
                };
                let node = self.node(needed);
                for operand in operands {
                    let of = self.expr(scopes, definition, operand);
                    self.link(of, node);
                }
                node
            }
        }
    }

    /// `.all` too: who has the target on every object has it on one.
    fn arrow(&mut self, scopes: &Scopes<'a>, definition: usize, relation: &'a str, target: &'a str) -> usize {
        if let Some(known) = self.arrows.get(&(definition, relation, target)) {
            return *known;
        }
        let node = self.node(1);
        self.arrows.insert((definition, relation, target), node);
        for to in scopes.targets(definition, relation, target) {
            let member = self.member(to, target);
            self.link(member, node);
        }
        node
    }
}
