//! `...name` → the members of that partial, in its place.
//!
//! INVARIANT: what comes out holds no splice in a definition, and its members are no longer, taken together, than the
//! bound on a schema's text: a short text must not stand for a long one. Nothing recurses.

use super::ast::{Block, File, ItemKind, Member, MemberKind};
use super::cycles::shown;
use super::diagnostic::{Diagnostic, Suggester, quoted};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Cycles shown of one schema.
const CYCLES_SHOWN_MAX: usize = 100;

/// Splices partials into the definitions of a tree. `line` says where a byte of the text stands, for hints.
pub(super) fn splice(
    file: &mut File,
    bytes_max: usize,
    suggester: &mut Suggester,
    line: &dyn Fn(usize) -> String,
) -> Vec<Diagnostic> {
    let blocks = file.items.iter().filter_map(|item| match &item.kind {
        ItemKind::Partial(block) => Some(block.clone()),
        ItemKind::Use(_) | ItemKind::Import(_) | ItemKind::Caveat(_) | ItemKind::Definition(_) => None,
    });
    let partials = Partials::of(blocks.collect());
    let definitions: HashSet<String> = file.items.iter().filter_map(definition_name).map(str::to_owned).collect();
    let imports = file.items.iter().any(|item| matches!(item.kind, ItemKind::Import(_)));
    let mut splicer = Splicer {
        partials: &partials,
        definitions: &definitions,
        has_unseen: file.is_incomplete || imports,
        bytes_max,
        bytes_left: bytes_max,
        is_spent: false,
        suggester,
        line,
        diagnostics: Vec::new(),
    };
    for block in &partials.blocks {
        for member in &block.members {
            if let MemberKind::Splice { partial } = &member.kind {
                splicer.known(&partial.text, &partial.span.0);
            }
        }
    }
    splicer.cycles();
    for item in &mut file.items {
        if let ItemKind::Definition(block) = &mut item.kind
            && block.members.iter().any(|member| matches!(member.kind, MemberKind::Splice { .. }))
        {
            splicer.definition(block);
        }
    }
    splicer.diagnostics
}

fn definition_name(item: &super::ast::Item) -> Option<&str> {
    match &item.kind {
        ItemKind::Definition(block) => Some(&block.name.text),
        ItemKind::Use(_) | ItemKind::Import(_) | ItemKind::Caveat(_) | ItemKind::Partial(_) => None,
    }
}

struct Partials {
    blocks: Vec<Block>,
    by_name: HashMap<String, usize>,
    /// Of each block: the partials it splices that are known, and where.
    inner: Vec<Vec<(usize, Range<usize>)>>,
}

impl Partials {
    fn of(blocks: Vec<Block>) -> Partials {
        let mut by_name = HashMap::new();
        for (index, block) in blocks.iter().enumerate() {
            by_name.entry(block.name.text.clone()).or_insert(index);
        }
        let inner = blocks
            .iter()
            .map(|block| {
                let splices = block.members.iter().filter_map(|member| match &member.kind {
                    MemberKind::Splice { partial } => {
                        Some((*by_name.get(partial.text.as_str())?, partial.span.0.clone()))
                    }
                    MemberKind::Relation { .. } | MemberKind::Permission { .. } => None,
                });
                splices.collect()
            })
            .collect();
        Partials { blocks, by_name, inner }
    }

    fn name(&self, partial: usize) -> &str {
        self.blocks.get(partial).map_or("", |block| &block.name.text)
    }
}

struct Splicer<'a> {
    partials: &'a Partials,
    definitions: &'a HashSet<String>,
    /// What could not be read, or stands in another file, may be a partial of any name.
    has_unseen: bool,
    bytes_max: usize,
    /// How much text may still be spliced in.
    bytes_left: usize,
    /// That it is too much has been told.
    is_spent: bool,
    suggester: &'a mut Suggester,
    line: &'a dyn Fn(usize) -> String,
    diagnostics: Vec<Diagnostic>,
}

/// Where a member of the definition being made comes from.
enum Origin {
    /// Declared in the definition, at that byte.
    Own(usize),
    /// From that partial.
    Spliced(usize),
}

impl Splicer<'_> {
    /// Tells of a partial that is none.
    fn known(&mut self, name: &str, span: &Range<usize>) {
        if self.has_unseen || self.partials.by_name.contains_key(name) {
            return;
        }
        let hint = if self.definitions.contains(name) {
            Some(format!("`{name}` is a definition, and only partials are spliced"))
        } else {
            self.suggester.hint(name, self.partials.blocks.iter().map(|block| block.name.text.as_str()))
        };
        let message = format!("unknown partial {}", quoted(name));
        self.diagnostics.push(Diagnostic::error("unknown-partial", span.clone(), message).with_hint_if(hint));
    }

    /// Partials that contain themselves. Depth first; bounded: every splice is followed once.
    fn cycles(&mut self) {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Not,
            /// It is on the way, at that step.
            Open(usize),
            Done,
        }
        let mut seen = vec![Seen::Not; self.partials.blocks.len()];
        let mut found = 0;
        for root in 0..self.partials.blocks.len() {
            if seen.get(root) != Some(&Seen::Not) {
                continue;
            }
            let mut way: Vec<(usize, usize)> = vec![(root, 0)];
            while let Some((at, next)) = way.pop() {
                if next == 0
                    && let Some(state) = seen.get_mut(at)
                {
                    *state = Seen::Open(way.len());
                }
                let Some((inner, span)) = self.partials.inner.get(at).and_then(|inner| inner.get(next)) else {
                    if let Some(state) = seen.get_mut(at) {
                        *state = Seen::Done;
                    }
                    continue;
                };
                way.push((at, next + 1));
                match seen.get(*inner).copied() {
                    Some(Seen::Not) => way.push((*inner, 0)),
                    Some(Seen::Open(from)) if found < CYCLES_SHOWN_MAX => {
                        found += 1;
                        let steps = way.iter().skip(from).map(|(step, _)| self.partials.name(*step).to_owned());
                        let message = format!(
                            "partial `{}` contains itself: {}",
                            self.partials.name(*inner),
                            shown(steps.collect())
                        );
                        self.diagnostics.push(Diagnostic::error("partial-cycle", span.clone(), message));
                    }
                    Some(Seen::Open(_) | Seen::Done) | None => {}
                }
            }
        }
    }

    fn definition(&mut self, block: &mut Block) {
        let written = std::mem::take(&mut block.members);
        let mut origins: HashMap<String, Origin> = HashMap::new();
        for member in &written {
            if let Some(name) = name_of(member) {
                origins.entry(name.text.clone()).or_insert(Origin::Own(name.span.0.start));
            }
        }
        let mut seen = HashSet::new();
        for member in written {
            let MemberKind::Splice { partial } = &member.kind else {
                block.members.push(member);
                continue;
            };
            let span = partial.span.0.clone();
            self.known(&partial.text, &span);
            let Some(index) = self.partials.by_name.get(partial.text.as_str()).copied() else {
                block.is_incomplete = true;
                continue;
            };
            self.partial(index, &span, block, &mut origins, &mut seen);
        }
    }

    /// Appends a partial's members, and those of the partials within. `span` is the splice in the definition, where
    /// everything that is wrong with it is told.
    fn partial(
        &mut self,
        root: usize,
        span: &Range<usize>,
        block: &mut Block,
        origins: &mut HashMap<String, Origin>,
        seen: &mut HashSet<usize>,
    ) {
        if !seen.insert(root) {
            self.twice(root, span, block);
            return;
        }
        let mut way: Vec<(usize, usize)> = vec![(root, 0)];
        let mut open = HashSet::from([root]);
        // Bounded: every partial is entered once.
        while let Some((at, next)) = way.pop() {
            let Some(partial) = self.partials.blocks.get(at) else {
                continue;
            };
            if next == 0 {
                block.is_incomplete |= partial.is_incomplete;
                block.broken.extend(partial.broken.iter().cloned());
            }
            let Some(member) = partial.members.get(next) else {
                open.remove(&at);
                continue;
            };
            way.push((at, next + 1));
            if !self.spend(member.span.0.len(), span) {
                block.is_incomplete = true;
                return;
            }
            let MemberKind::Splice { partial: inner } = &member.kind else {
                if self.may_add(member, at, span, block, origins) {
                    block.members.push(member.clone());
                }
                continue;
            };
            let Some(inner) = self.partials.by_name.get(inner.text.as_str()).copied() else {
                block.is_incomplete = true;
                continue;
            };
            if seen.insert(inner) {
                way.push((inner, 0));
                open.insert(inner);
            } else if !open.contains(&inner) {
                self.twice(inner, span, block);
            }
        }
    }

    /// Whether the definition has no such member yet; tells of it otherwise.
    fn may_add(
        &mut self,
        member: &Member,
        partial: usize,
        span: &Range<usize>,
        block: &Block,
        origins: &mut HashMap<String, Origin>,
    ) -> bool {
        let Some(name) = name_of(member) else {
            return false;
        };
        let hint = match origins.get(&name.text) {
            None => {
                origins.insert(name.text.clone(), Origin::Spliced(partial));
                return true;
            }
            // Declared twice in the partial, which is told there.
            Some(Origin::Spliced(first)) if *first == partial => return false,
            Some(Origin::Spliced(first)) => format!("it comes from partial `{}` already", self.partials.name(*first)),
            Some(Origin::Own(at)) => format!("`{}` declares it on {}", block.name.text, (self.line)(*at)),
        };
        let message =
            format!("{} of partial `{}` is declared twice here", quoted(&name.text), self.partials.name(partial));
        self.diagnostics.push(Diagnostic::error("duplicate-name", span.clone(), message).with_hint(hint));
        false
    }

    fn twice(&mut self, partial: usize, span: &Range<usize>, block: &Block) {
        let name = self.partials.name(partial);
        let message = format!("partial `{name}` is spliced twice into `{}`", block.name.text);
        self.diagnostics.push(Diagnostic::error("duplicate-name", span.clone(), message));
    }

    /// Counts what is spliced in; `false` when it is too much, which is told once.
    fn spend(&mut self, bytes: usize, span: &Range<usize>) -> bool {
        if let Some(left) = self.bytes_left.checked_sub(bytes.max(1)) {
            self.bytes_left = left;
            return true;
        }
        if !std::mem::replace(&mut self.is_spent, true) {
            let message = format!("what is spliced in is more than {} bytes long, taken together", self.bytes_max);
            let hint = "a schema with its partials written out has the same limit as one without";
            self.diagnostics.push(Diagnostic::error("too-long", span.clone(), message).with_hint(hint));
        }
        self.bytes_left = 0;
        false
    }
}

fn name_of(member: &Member) -> Option<&super::ast::Name> {
    match &member.kind {
        MemberKind::Relation { name, .. } | MemberKind::Permission { name, .. } => Some(name),
        MemberKind::Splice { .. } => None,
    }
}
