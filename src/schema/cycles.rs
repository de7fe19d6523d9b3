//! What follows from names naming each other: wildcards reached through relations, permissions that are each other's
//! alias, and permissions that depend on their own absence.
//!
//! INVARIANT: nothing here recurses but into an expression; each pass is linear in the graph it walks.

use super::ast::{self, ExprKind, Form, MemberKind, Operator};
use super::compile::{Found, Scopes};
use super::diagnostic::Diagnostic;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

/// Cycles shown of one schema: finding the shortest way round costs the whole graph each time.
const CYCLES_SHOWN_MAX: usize = 100;
/// Steps shown of one cycle.
const STEPS_SHOWN_MAX: usize = 12;

/// A relation: its definition's index, and its name.
type Key<'a> = (usize, &'a str);

// --- wildcards --------------------------------------------------------------------------------------------------

/// The relations that allow a wildcard, directly or through relations they name. Permissions are not followed.
pub(super) struct Wildcards<'a> {
    steps: HashMap<Key<'a>, Step<'a>>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// The relation allows `T:*`.
    Direct(&'a str),
    /// It names another that does.
    Through(Key<'a>),
}

pub(super) fn wildcards<'a>(scopes: &Scopes<'a>) -> Wildcards<'a> {
    let mut steps = HashMap::new();
    let mut named_by: HashMap<Key<'a>, Vec<Key<'a>>> = HashMap::new();
    let mut queue = VecDeque::new();
    for (index, scope) in scopes.definitions.iter().enumerate() {
        for member in &scope.block.members {
            let MemberKind::Relation { name, subjects, .. } = &member.kind else {
                continue;
            };
            let key: Key<'a> = (index, &name.text);
            for subject in subjects {
                let subject_type = subject.subject_type.text.as_str();
                match &subject.form {
                    Form::Object => {}
                    Form::Wildcard => {
                        if steps.insert(key, Step::Direct(subject_type)).is_none() {
                            queue.push_back(key);
                        }
                    }
                    Form::Userset(relation) => {
                        if let Some(target) = scopes.by_name.get(subject_type) {
                            named_by.entry((*target, relation.text.as_str())).or_default().push(key);
                        }
                    }
                }
            }
        }
    }
    // Backwards from the wildcards; bounded: every relation is queued once.
    while let Some(key) = queue.pop_front() {
        for namer in named_by.get(&key).into_iter().flatten() {
            if !steps.contains_key(namer) {
                steps.insert(*namer, Step::Through(key));
                queue.push_back(*namer);
            }
        }
    }
    Wildcards { steps }
}

impl<'a> Wildcards<'a> {
    /// How that relation allows a wildcard, in words; `None` when it does not.
    pub(super) fn via(&self, scopes: &Scopes<'a>, definition: usize, relation: &str) -> Option<String> {
        let named = |key: Key<'_>| {
            let scope = scopes.definitions.get(key.0);
            format!("`{}#{}`", scope.map_or("", |scope| scope.block.name.text.as_str()), key.1)
        };
        let mut told = Vec::new();
        let mut key: (usize, &str) = (definition, relation);
        for _ in 0..STEPS_SHOWN_MAX {
            match self.steps.get(&key)? {
                Step::Direct(subject_type) => {
                    told.push(format!("{} allows `{subject_type}:*`", named(key)));
                    return Some(told.join(", "));
                }
                Step::Through(next) => {
                    told.push(format!("{} allows {}", named(key), named(*next)));
                    key = *next;
                }
            }
        }
        told.push("and so on to a wildcard".to_owned());
        Some(told.join(", "))
    }
}

// --- aliases ----------------------------------------------------------------------------------------------------

/// Permissions that are nothing but one another's name: `a = b; b = a` says nothing.
pub(super) fn alias_cycles(scopes: &Scopes<'_>) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for scope in &scopes.definitions {
        let mut done: HashSet<&str> = HashSet::new();
        for member in &scope.block.members {
            let MemberKind::Permission { name, .. } = &member.kind else {
                continue;
            };
            // Each permission is an alias of one other at most, so a path is walked until it meets what was seen.
            let mut path: Vec<&str> = Vec::new();
            let mut on_path: HashMap<&str, usize> = HashMap::new();
            let mut at: &str = &name.text;
            while !done.contains(at) {
                if let Some(first) = on_path.get(at) {
                    let cycle = path.get(*first..).unwrap_or_default();
                    errors.push(alias_error(scope.found(at), at, cycle));
                    break;
                }
                on_path.insert(at, path.len());
                path.push(at);
                match scope.found(at).and_then(alias_of) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            done.extend(path);
        }
    }
    errors
}

fn alias_of(found: Found<'_>) -> Option<&str> {
    match found {
        Found::Relation(_) => None,
        Found::Permission(expr) => match &expr.bare().kind {
            ExprKind::Name(name) => Some(&name.text),
            ExprKind::Nil
            | ExprKind::SelfSubject
            | ExprKind::Arrow { .. }
            | ExprKind::Paren(_)
            | ExprKind::Chain { .. } => None,
        },
    }
}

fn alias_error(found: Option<Found<'_>>, name: &str, cycle: &[&str]) -> Diagnostic {
    let span = match found {
        Some(Found::Permission(expr)) => expr.span.0.clone(),
        Some(Found::Relation(_)) | None => 0..0,
    };
    let steps: Vec<String> = cycle.iter().map(|step| (*step).to_owned()).collect();
    let message = format!("permission `{name}` is only another name for itself: {}", shown(steps));
    Diagnostic::error("alias-cycle", span, message).with_hint("let one of them name a relation")
}

/// The steps of a cycle, the first again at its end; the middle of a long one is left out.
pub(super) fn shown(mut steps: Vec<String>) -> String {
    if steps.len() > STEPS_SHOWN_MAX {
        let rest = steps.split_off(steps.len() - STEPS_SHOWN_MAX / 2);
        steps.truncate(STEPS_SHOWN_MAX / 2);
        steps.push("…".to_owned());
        steps.extend(rest);
    }
    steps.extend(steps.first().cloned());
    format!("`{}`", steps.join("` → `"))
}

// --- exclusions -------------------------------------------------------------------------------------------------

/// Who depends on whom. A node is a member, or one arrow's target on all types that the arrow reaches.
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    edges: Vec<Vec<Edge>>,
    members: HashMap<Key<'a>, usize>,
    arrows: HashMap<(usize, &'a str, &'a str), usize>,
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Member(Key<'a>),
    Arrow,
}

struct Edge {
    to: usize,
    /// Where it stands, when it stands in a right operand of `-`.
    excluded_at: Option<Range<usize>>,
}

/// Permissions that depend on their own absence: with `view = viewer - banned` and `banned` leading back to `view`,
/// data with the same cycle has no answer.
pub(super) fn exclusion_cycles(scopes: &Scopes<'_>) -> Vec<Diagnostic> {
    let graph = Graph::of(scopes);
    let components = graph.components();
    let mut errors = Vec::new();
    for (from, edges) in graph.edges.iter().enumerate() {
        let is_in_cycle = |edge: &&Edge| components.get(edge.to) == components.get(from);
        let negative = edges.iter().filter(|edge| edge.excluded_at.is_some()).find(is_in_cycle);
        let Some((span, edge)) = negative.and_then(|edge| edge.excluded_at.clone().map(|span| (span, edge))) else {
            continue;
        };
        if errors.len() == CYCLES_SHOWN_MAX {
            break;
        }
        let mut steps = vec![from];
        steps.extend(graph.way(edge.to, from, &components));
        let steps: Vec<String> = steps.iter().filter_map(|node| graph.shown(*node, scopes)).collect();
        let name = steps.first().cloned().unwrap_or_default();
        let message = format!("`{name}` depends on its own absence, through the right side of `-`: {}", shown(steps));
        let hint = "data with such a cycle would have no answer; exclude by a relation or permission outside it";
        errors.push(Diagnostic::error("exclusion-cycle", span, message).with_hint(hint));
    }
    errors
}

impl<'a> Graph<'a> {
    fn of(scopes: &Scopes<'a>) -> Graph<'a> {
        let mut graph = Graph { nodes: Vec::new(), edges: Vec::new(), members: HashMap::new(), arrows: HashMap::new() };
        for (index, scope) in scopes.definitions.iter().enumerate() {
            for name in scope.members.keys() {
                let node = graph.add(Node::Member((index, name)));
                graph.members.insert((index, name), node);
            }
        }
        for (index, scope) in scopes.definitions.iter().enumerate() {
            for name in scope.members.keys() {
                let Some(from) = graph.members.get(&(index, *name)).copied() else {
                    continue;
                };
                match scope.found(name) {
                    Some(Found::Relation(subjects)) => graph.usersets(scopes, from, subjects),
                    Some(Found::Permission(expr)) => graph.expr(scopes, index, from, expr, false),
                    None => {}
                }
            }
        }
        graph
    }

    fn add(&mut self, node: Node<'a>) -> usize {
        self.nodes.push(node);
        self.edges.push(Vec::new());
        self.nodes.len() - 1
    }

    fn link(&mut self, from: usize, to: usize, excluded_at: Option<Range<usize>>) {
        if let Some(edges) = self.edges.get_mut(from) {
            edges.push(Edge { to, excluded_at });
        }
    }

    /// A relation holds for whoever has what its usersets name.
    fn usersets(&mut self, scopes: &Scopes<'a>, from: usize, subjects: &'a [ast::Subject]) {
        for subject in subjects {
            if let Form::Userset(name) = &subject.form
                && let Some(definition) = scopes.by_name.get(subject.subject_type.text.as_str())
                && let Some(to) = self.members.get(&(*definition, name.text.as_str())).copied()
            {
                self.link(from, to, None);
            }
        }
    }

    /// Recursion is bounded by the parser. All within a right operand of `-` counts, even `- (a - b)`'s `b`: with
    /// three values and cycles in the data, twice negated is not the same as never.
    fn expr(&mut self, scopes: &Scopes<'a>, definition: usize, from: usize, expr: &'a ast::Expr, is_excluded: bool) {
        let excluded_at = is_excluded.then(|| expr.span.0.clone());
        match &expr.kind {
            ExprKind::Nil | ExprKind::SelfSubject => {}
            ExprKind::Name(name) => {
                if let Some(to) = self.members.get(&(definition, name.text.as_str())).copied() {
                    self.link(from, to, excluded_at);
                }
            }
            ExprKind::Arrow { relation, target, .. } => {
                let to = self.arrow(scopes, definition, &relation.text, &target.text);
                self.link(from, to, excluded_at);
            }
            ExprKind::Paren(inner) => self.expr(scopes, definition, from, inner, is_excluded),
            ExprKind::Chain { operator, operands } => {
                for (index, operand) in operands.iter().enumerate() {
                    let is_excluded = is_excluded || (*operator == Operator::Exclusion && index > 0);
                    self.expr(scopes, definition, from, operand, is_excluded);
                }
            }
        }
    }

    /// An arrow reads who stands in its relation, whatever they are there for: what the relation's usersets hold does
    /// not matter to it. So it depends on its target alone, on every type it may reach.
    fn arrow(&mut self, scopes: &Scopes<'a>, definition: usize, relation: &'a str, target: &'a str) -> usize {
        if let Some(known) = self.arrows.get(&(definition, relation, target)) {
            return *known;
        }
        let node = self.add(Node::Arrow);
        self.arrows.insert((definition, relation, target), node);
        for to in scopes.targets(definition, relation, target) {
            if let Some(to) = self.members.get(&(to, target)).copied() {
                self.link(node, to, None);
            }
        }
        node
    }

    /// For each node, which strongly connected component it is in. Tarjan 1972, without recursion.
    fn components(&self) -> Vec<usize> {
        const UNSEEN: usize = usize::MAX;
        let count = self.nodes.len();
        let mut order = vec![UNSEEN; count];
        let mut low = vec![0_usize; count];
        let mut component = vec![UNSEEN; count];
        let mut open: Vec<usize> = Vec::new();
        let mut seen = 0_usize;
        let mut components = 0_usize;
        // What is left to do at each node on the way down: its next edge.
        let mut way: Vec<(usize, usize)> = Vec::new();
        let get = |list: &[usize], at: usize| list.get(at).copied().unwrap_or(UNSEEN);
        let set = |list: &mut [usize], at: usize, value: usize| {
            if let Some(place) = list.get_mut(at) {
                *place = value;
            }
        };
        for root in 0..count {
            if get(&order, root) != UNSEEN {
                continue;
            }
            way.push((root, 0));
            while let Some((node, next)) = way.pop() {
                if next == 0 {
                    set(&mut order, node, seen);
                    set(&mut low, node, seen);
                    seen += 1;
                    open.push(node);
                }
                let edges = self.edges.get(node).map(Vec::as_slice).unwrap_or_default();
                let Some(edge) = edges.get(next) else {
                    if get(&low, node) == get(&order, node) {
                        while let Some(member) = open.pop() {
                            set(&mut component, member, components);
                            if member == node {
                                break;
                            }
                        }
                        components += 1;
                    }
                    if let Some((parent, _)) = way.last().copied() {
                        let lower = get(&low, parent).min(get(&low, node));
                        set(&mut low, parent, lower);
                    }
                    continue;
                };
                way.push((node, next + 1));
                if get(&order, edge.to) == UNSEEN {
                    way.push((edge.to, 0));
                } else if get(&component, edge.to) == UNSEEN {
                    let lower = get(&low, node).min(get(&order, edge.to));
                    set(&mut low, node, lower);
                }
            }
        }
        component
    }

    /// The shortest way between two nodes of one component, its end left out.
    fn way(&self, from: usize, to: usize, components: &[usize]) -> Vec<usize> {
        let mut came_from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([from]);
        // Bounded: every node is queued once.
        while let Some(node) = queue.pop_front() {
            if node == to {
                break;
            }
            for edge in self.edges.get(node).into_iter().flatten() {
                let is_new = edge.to != from && !came_from.contains_key(&edge.to);
                if is_new && components.get(edge.to) == components.get(from) {
                    came_from.insert(edge.to, node);
                    queue.push_back(edge.to);
                }
            }
        }
        let mut way = Vec::new();
        let mut at = to;
        // Bounded: every node was reached once.
        while at != from {
            let Some(before) = came_from.get(&at) else {
                break;
            };
            way.push(*before);
            at = *before;
        }
        way.reverse();
        way
    }

    fn shown(&self, node: usize, scopes: &Scopes<'a>) -> Option<String> {
        match self.nodes.get(node)? {
            Node::Member((definition, name)) => {
                let scope = scopes.definitions.get(*definition)?;
                Some(format!("{}#{name}", scope.block.name.text))
            }
            Node::Arrow => None,
        }
    }
}
