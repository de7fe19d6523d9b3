//! A schema's text → `Schema`: every name resolved and every type checked, or all that is wrong with it.
//!
//! INVARIANT: this is the only place a `Schema` is made. Time is linear in the text but for arrows, whose targets are
//! looked up on every type they may reach. Nothing recurses deeper than an expression nests.

use super::ast::{self, ArrowSign, ExprKind, File, Form, ItemKind, MemberKind, Operator, RelationWord};
use super::caveats::caveat;
use super::cycles;
use super::diagnostic::{Diagnostic, Suggester, in_order, line_column, quoted};
use super::lint;
use super::parser::parse;
use super::partials::splice;
use super::typecheck;
use super::types::{
    AllowedSubject, CaveatDefinition, Definition, Expr, Member, Permission, Quantifier, Relation, Schema, SubjectForm,
};
use crate::model::{CaveatName, Limits, NameError, RelationName, TypeName};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// A schema that may be used, and what is doubtful about it.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub schema: Schema,
    /// In the text's order; all of severity `Warning`.
    pub warnings: Vec<Diagnostic>,
}

/// Understands a schema's text. The errors are all that were found, in the text's order; at most a thousand.
///
/// ```
/// use procura::{model::Limits, schema::compile};
/// let text = "definition user {}\ndefinition doc {\n  relation viewer: user\n  permission view = viwer\n}";
/// let errors = compile(text, &Limits::default()).unwrap_err();
/// assert_eq!(errors[0].line_column(text), (4, 21));
/// assert_eq!(errors[0].hint.as_deref(), Some("did you mean `viewer`?"));
/// ```
pub fn compile(text: &str, limits: &Limits) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(text, limits, &|offset| format!("line {}", line_column(text, offset).0))
}

/// The same, where hints say with `line` on which line a byte of the text stands.
pub(super) fn compile_with(
    text: &str,
    limits: &Limits,
    line: &dyn Fn(usize) -> String,
) -> Result<Compiled, Vec<Diagnostic>> {
    if text.len() > limits.schema_bytes_max {
        let message =
            format!("the schema is {} bytes long; at most {} are allowed", text.len(), limits.schema_bytes_max);
        return Err(vec![Diagnostic::error("too-long", 0..0, message)]);
    }
    let parsed = parse(text, limits);
    let (mut file, mut diagnostics) = (parsed.file, parsed.diagnostics);
    diagnostics.append(&mut splice(&mut file, limits.schema_bytes_max, &mut Suggester::new(), line));
    let mut checker = Checker::new(text, &file, diagnostics, line);
    checker.definitions_max(limits.definitions_max);
    checker.imports();
    checker.names();
    checker.caveats();
    checker.relations();
    checker.permissions();
    checker.wildcards();
    checker.cycles();
    if checker.diagnostics.is_empty() {
        checker.annotations(limits.schema_type_steps_max);
    }
    if !checker.diagnostics.is_empty() {
        return Err(in_order(checker.diagnostics));
    }
    let Checker { scopes, caveats, .. } = checker;
    let (definitions, by_name) = definitions(&file).map_err(|error| vec![error])?;
    let caveats_by_name = caveats.iter().enumerate().map(|(index, caveat)| (caveat.name.clone(), index)).collect();
    let warnings = in_order(lint::lint(&scopes));
    let digest = digest(text);
    let schema = Schema { text: text.to_owned(), digest, definitions, by_name, caveats, caveats_by_name };
    Ok(Compiled { schema, warnings })
}

/// SHA-256 of a schema's text, in hex: what names it.
#[must_use]
pub fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

// --- names ------------------------------------------------------------------------------------------------------

/// All names of a tree, to be looked up.
pub(super) struct Scopes<'a> {
    pub(super) definitions: Vec<Scope<'a>>,
    pub(super) by_name: HashMap<&'a str, usize>,
    /// Which definitions have a member of that name, in order.
    holders: HashMap<&'a str, Vec<usize>>,
}

/// The types of a relation's subjects, as arrows see them.
#[derive(Default)]
pub(super) struct Reach<'a> {
    /// Indexes of definitions, each once, in order.
    pub(super) definitions: Vec<usize>,
    set: HashSet<usize>,
    /// The first subject that is a userset, and the first that is of another relation than that one.
    pub(super) usersets: [Option<(&'a ast::Name, &'a ast::Name)>; 2],
}

/// The names of one definition.
pub(super) struct Scope<'a> {
    pub(super) block: &'a ast::Block,
    pub(super) trivia: &'a ast::Trivia,
    /// Index into the block's members.
    pub(super) members: HashMap<&'a str, usize>,
    /// Of each relation.
    reaches: HashMap<&'a str, Reach<'a>>,
    /// Members that could not be read, or come from a partial that could not be, may have any name.
    is_open: bool,
}

/// What a name in a definition stands for.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Relation(&'a [ast::Subject]),
    Permission(&'a ast::Expr),
}

impl<'a> Scopes<'a> {
    fn of(file: &'a File) -> Scopes<'a> {
        let mut scopes = Scopes { definitions: Vec::new(), by_name: HashMap::new(), holders: HashMap::new() };
        for item in &file.items {
            if let ItemKind::Definition(block) = &item.kind {
                let index = scopes.definitions.len();
                scopes.by_name.entry(block.name.text.as_str()).or_insert(index);
                let scope = Scope::of(block, &item.trivia);
                for name in scope.members.keys() {
                    scopes.holders.entry(name).or_default().push(index);
                }
                scopes.definitions.push(scope);
            }
        }
        for scope in &mut scopes.definitions {
            for name in scope.members.keys() {
                if let Some(Found::Relation(subjects)) = scope.found(name) {
                    scope.reaches.insert(name, Reach::of(&scopes.by_name, subjects));
                }
            }
        }
        scopes
    }

    pub(super) fn definition(&self, name: &str) -> Option<&Scope<'a>> {
        self.by_name.get(name).and_then(|index| self.definitions.get(*index))
    }

    /// Where an arrow over that relation leads; `None` when it is none.
    pub(super) fn reach(&self, definition: usize, relation: &str) -> Option<&Reach<'a>> {
        self.definitions.get(definition)?.reaches.get(relation)
    }

    /// The definitions that an arrow over that relation leads to and that have its target, in order. The shorter list
    /// is walked: a schema of many arrows over many types must not cost their product.
    pub(super) fn targets(&self, definition: usize, relation: &str, target: &str) -> Vec<usize> {
        let Some(reach) = self.reach(definition, relation) else {
            return Vec::new();
        };
        let holders = self.holders.get(target).map(Vec::as_slice).unwrap_or_default();
        if holders.len() < reach.definitions.len() {
            return holders.iter().copied().filter(|index| reach.set.contains(index)).collect();
        }
        let has_target =
            |index: &usize| self.definitions.get(*index).is_some_and(|scope| scope.members.contains_key(target));
        reach.definitions.iter().copied().filter(has_target).collect()
    }
}

impl<'a> Reach<'a> {
    fn of(by_name: &HashMap<&'a str, usize>, subjects: &'a [ast::Subject]) -> Reach<'a> {
        let mut reach = Reach::default();
        for subject in subjects {
            if let Some(index) = by_name.get(subject.subject_type.text.as_str())
                && reach.set.insert(*index)
            {
                reach.definitions.push(*index);
            }
            if let Form::Userset(relation) = &subject.form {
                let [first, second] = &mut reach.usersets;
                match first {
                    None => *first = Some((&subject.subject_type, relation)),
                    Some((_, other)) if second.is_none() && other.text != relation.text => {
                        *second = Some((&subject.subject_type, relation));
                    }
                    Some(_) => {}
                }
            }
        }
        reach
    }
}

impl<'a> Scope<'a> {
    fn of(block: &'a ast::Block, trivia: &'a ast::Trivia) -> Scope<'a> {
        let mut members = HashMap::with_capacity(block.members.len());
        let mut is_open = block.is_incomplete;
        for (index, member) in block.members.iter().enumerate() {
            match &member.kind {
                MemberKind::Relation { name, .. } | MemberKind::Permission { name, .. } => {
                    members.entry(name.text.as_str()).or_insert(index);
                }
                MemberKind::Splice { .. } => is_open = true,
            }
        }
        Scope { block, trivia, members, reaches: HashMap::new(), is_open }
    }

    pub(super) fn found(&self, name: &str) -> Option<Found<'a>> {
        let index = self.members.get(name)?;
        match &self.block.members.get(*index)?.kind {
            MemberKind::Relation { subjects, .. } => Some(Found::Relation(subjects)),
            MemberKind::Permission { expr, .. } => Some(Found::Permission(expr)),
            MemberKind::Splice { .. } => None,
        }
    }

    /// The name is known not to exist.
    fn lacks(&self, name: &str) -> bool {
        !self.is_open && !self.members.contains_key(name) && !self.block.broken.iter().any(|broken| broken == name)
    }
}

// --- checks -----------------------------------------------------------------------------------------------------

struct Checker<'a> {
    text: &'a str,
    /// Its definitions have their partials spliced in.
    file: &'a File,
    scopes: Scopes<'a>,
    caveat_names: HashSet<&'a str>,
    /// Those that may be evaluated.
    caveats: Vec<CaveatDefinition>,
    /// What could not be read, or stands in another file, may define any name.
    has_unseen: bool,
    line: &'a dyn Fn(usize) -> String,
    suggester: Suggester,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn new(
        text: &'a str,
        file: &'a File,
        diagnostics: Vec<Diagnostic>,
        line: &'a dyn Fn(usize) -> String,
    ) -> Checker<'a> {
        let scopes = Scopes::of(file);
        let caveat_names = file.items.iter().filter_map(|item| match &item.kind {
            ItemKind::Caveat(caveat) => Some(caveat.name.text.as_str()),
            ItemKind::Use(_) | ItemKind::Import(_) | ItemKind::Partial(_) | ItemKind::Definition(_) => None,
        });
        let caveat_names = caveat_names.collect();
        let has_unseen = file.is_incomplete || file.items.iter().any(|item| matches!(item.kind, ItemKind::Import(_)));
        let (caveats, suggester) = (Vec::new(), Suggester::new());
        Checker { text, file, scopes, caveat_names, caveats, has_unseen, line, suggester, diagnostics }
    }

    fn error(&mut self, name: &'static str, span: &Range<usize>, message: impl Into<String>) {
        self.error_with_hint(name, span, message, None);
    }

    fn error_with_hint(
        &mut self,
        name: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic::error(name, span.clone(), message).with_hint_if(hint));
    }

    fn definitions_max(&mut self, definitions_max: usize) {
        let count = self.scopes.definitions.len();
        if let Some(scope) = self.scopes.definitions.get(definitions_max) {
            let span = scope.block.name.span.0.clone();
            let message = format!("the schema has {count} definitions; at most {definitions_max} are allowed");
            self.error("too-many-definitions", &span, message);
        }
    }

    /// An import is done by whoever has the files, before there is one text.
    fn imports(&mut self) {
        let file = self.file;
        for item in &file.items {
            if let ItemKind::Import(path) = &item.kind {
                let message = format!("there is no file {} beside this text", quoted(&path.text));
                let hint = "`procura schema write` and `check` read the imported files and make one text of them";
                self.error_with_hint("import", &item.span.0, message, Some(hint.to_owned()));
            }
        }
    }

    fn caveats(&mut self) {
        let file = self.file;
        for item in &file.items {
            if let ItemKind::Caveat(written) = &item.kind {
                let doc = item.trivia.doc();
                let found = caveat(self.text, written, doc, &mut self.suggester, &mut self.diagnostics);
                self.caveats.extend(found);
            }
        }
    }

    /// Every name has its alphabet, and stands for one thing.
    fn names(&mut self) {
        let file = self.file;
        let mut tops: HashMap<&str, &ast::Name> = HashMap::new();
        // Only splices name them, so that a partial may be called as the definition it is for.
        let mut partials: HashMap<&str, &ast::Name> = HashMap::new();
        for item in &file.items {
            let (names, name, wrong) = match &item.kind {
                ItemKind::Use(_) | ItemKind::Import(_) => continue,
                ItemKind::Caveat(caveat) => (&mut tops, &caveat.name, CaveatName::new(caveat.name.text.as_str()).err()),
                ItemKind::Partial(block) => {
                    self.member_names(block);
                    (&mut partials, &block.name, TypeName::new(block.name.text.as_str()).err())
                }
                ItemKind::Definition(block) => {
                    self.member_names(block);
                    (&mut tops, &block.name, TypeName::new(block.name.text.as_str()).err())
                }
            };
            if let Some(wrong) = wrong {
                self.wrong_name(name, &wrong);
            }
            match names.get(name.text.as_str()) {
                Some(first) => self.duplicate(name, first),
                None => drop(names.insert(&name.text, name)),
            }
        }
    }

    fn member_names(&mut self, block: &'a ast::Block) {
        let mut firsts: HashMap<&str, &ast::Name> = HashMap::new();
        for member in &block.members {
            let name = match &member.kind {
                MemberKind::Relation { name, .. } | MemberKind::Permission { name, .. } => name,
                MemberKind::Splice { .. } => continue,
            };
            if let Err(wrong) = RelationName::new(name.text.as_str()) {
                self.wrong_name(name, &wrong);
            }
            match firsts.get(name.text.as_str()) {
                Some(first) => self.duplicate(name, first),
                None => drop(firsts.insert(&name.text, name)),
            }
        }
    }

    fn duplicate(&mut self, name: &ast::Name, first: &ast::Name) {
        let hint = format!("the first is on {}", (self.line)(first.span.0.start));
        let message = format!("{} is declared twice", quoted(&name.text));
        self.error_with_hint("duplicate-name", &name.span.0, message, Some(hint));
    }

    fn wrong_name(&mut self, name: &ast::Name, wrong: &NameError) {
        let span = &name.span.0;
        // A path may be written with white space within, and then places in the name are not places in the text.
        let is_as_written = span.len() == name.text.len();
        let rest = name.text.get(wrong.at()..).and_then(|rest| rest.chars().next());
        let span = match rest {
            Some(found) if is_as_written => span.start + wrong.at()..span.start + wrong.at() + found.len_utf8(),
            _ => span.clone(),
        };
        let lower = name.text.to_lowercase();
        let hint = (lower != name.text && TypeName::new(lower.as_str()).is_ok()).then(|| format!("write `{lower}`"));
        self.error_with_hint("invalid-name", &span, wrong.to_string(), hint);
    }

    /// Every subject form names what exists, once; and every annotation. Of partials too, which may be in no definition.
    fn relations(&mut self) {
        let file = self.file;
        for item in &file.items {
            let (ItemKind::Definition(block) | ItemKind::Partial(block)) = &item.kind else {
                continue;
            };
            for member in &block.members {
                match &member.kind {
                    MemberKind::Relation { name, word, subjects } => self.subjects(name, *word, subjects),
                    MemberKind::Permission { annotation: Some(types), .. } => self.annotation(types),
                    MemberKind::Permission { annotation: None, .. } | MemberKind::Splice { .. } => {}
                }
            }
        }
    }

    fn annotation(&mut self, types: &'a [ast::Name]) {
        let mut seen = HashSet::new();
        for name in types {
            if self.known_type(name) && !seen.insert(name.text.as_str()) {
                let message = format!("{} stands twice", quoted(&name.text));
                self.error("duplicate-subject", &name.span.0, message);
            }
        }
    }

    fn subjects(&mut self, relation: &ast::Name, word: RelationWord, subjects: &'a [ast::Subject]) {
        let mut seen = HashSet::new();
        for subject in subjects {
            let form = match &subject.form {
                Form::Object => "",
                Form::Userset(name) => name.text.as_str(),
                Form::Wildcard => "*",
            };
            let caveat = subject.caveat.as_ref().map(|caveat| caveat.text.as_str());
            if !seen.insert((subject.subject_type.text.as_str(), form, caveat, subject.expiration.is_some())) {
                let shown = quoted(self.text.get(subject.span.0.clone()).unwrap_or_default());
                let message = format!("{shown} stands twice in relation {}", quoted(&relation.text));
                self.error("duplicate-subject", &subject.span.0, message);
            }
            let is_plain = matches!(subject.form, Form::Object) && caveat.is_none() && subject.expiration.is_none();
            if word == RelationWord::Parent && !is_plain {
                let message = "a `parent` takes plain types only, as in `parent folder: folder`";
                self.error("parent-subject", &subject.span.0, message);
            }
            self.known_caveat(subject);
            if !self.known_type(&subject.subject_type) {
                continue;
            }
            if let Form::Userset(name) = &subject.form {
                self.known_member(&subject.subject_type.text, name);
            }
        }
    }

    fn known_caveat(&mut self, subject: &'a ast::Subject) {
        let Some(caveat) = &subject.caveat else {
            return;
        };
        if self.caveat_names.contains(caveat.text.as_str()) {
            return;
        }
        if self.has_unseen {
            return;
        }
        let hint = match caveat.text.as_str() {
            "expiration" => Some("add `use expiration` at the top of the schema".to_owned()),
            name => {
                // So that the same name is suggested every time.
                let mut names: Vec<&str> = self.caveat_names.iter().copied().collect();
                names.sort_unstable();
                self.suggester.hint(name, names)
            }
        };
        self.error_with_hint(
            "unknown-caveat",
            &caveat.span.0,
            format!("unknown caveat {}", quoted(&caveat.text)),
            hint,
        );
    }

    fn known_type(&mut self, name: &'a ast::Name) -> bool {
        if self.scopes.by_name.contains_key(name.text.as_str()) {
            return true;
        }
        if !self.has_unseen {
            let names = self.scopes.definitions.iter().map(|scope| scope.block.name.text.as_str());
            let hint = self.suggester.hint(&name.text, names);
            self.error_with_hint("unknown-type", &name.span.0, format!("unknown type {}", quoted(&name.text)), hint);
        }
        false
    }

    fn known_member(&mut self, definition: &str, name: &'a ast::Name) {
        let Some(scope) = self.scopes.definition(definition) else {
            return;
        };
        if !scope.lacks(&name.text) {
            return;
        }
        let hint = self.suggester.hint(&name.text, in_source_order(scope));
        let message = format!("unknown relation or permission {} of type `{definition}`", quoted(&name.text));
        self.error_with_hint("unknown-relation", &name.span.0, message, hint);
    }

    /// Every name in an expression exists, and every arrow starts at a relation.
    fn permissions(&mut self) {
        for index in 0..self.scopes.definitions.len() {
            let Some(block) = self.scopes.definitions.get(index).map(|scope| scope.block) else {
                continue;
            };
            for member in &block.members {
                if let MemberKind::Permission { expr, .. } = &member.kind {
                    self.expr(index, expr);
                }
            }
        }
    }

    /// Recursion is bounded by the parser.
    fn expr(&mut self, definition: usize, expr: &'a ast::Expr) {
        match &expr.kind {
            ExprKind::Nil | ExprKind::SelfSubject => {}
            ExprKind::Name(name) => self.known_name(definition, name),
            ExprKind::Arrow { relation, .. } => self.known_name(definition, relation),
            ExprKind::Paren(inner) => self.expr(definition, inner),
            ExprKind::Chain { operands, .. } => operands.iter().for_each(|operand| self.expr(definition, operand)),
        }
        if let ExprKind::Arrow { relation, target, .. } = &expr.kind {
            // The target need not exist, so this is the only place where its alphabet is looked at.
            if let Err(wrong) = RelationName::new(target.text.as_str()) {
                self.wrong_name(target, &wrong);
            }
            let found = self.scopes.definitions.get(definition).and_then(|scope| scope.found(&relation.text));
            if matches!(found, Some(Found::Permission(_))) {
                let message = format!("{} is a permission: an arrow starts at a relation", quoted(&relation.text));
                let hint = "an arrow follows tuples, and only relations have them".to_owned();
                self.error_with_hint("arrow-on-permission", &relation.span.0, message, Some(hint));
            }
        }
    }

    fn known_name(&mut self, definition: usize, name: &'a ast::Name) {
        let Some(scope) = self.scopes.definitions.get(definition) else {
            return;
        };
        if !scope.lacks(&name.text) {
            return;
        }
        let hint = match name.text.as_str() {
            "self" => Some("`self` is a word only under `use self`".to_owned()),
            text => self.suggester.hint(text, in_source_order(scope)),
        };
        let message = format!("unknown relation or permission {}", quoted(&name.text));
        self.error_with_hint("unknown-relation", &name.span.0, message, hint);
    }

    /// No arrow starts at, and no other definition names, a relation that lets everybody in: an arrow would visit
    /// every object there is, and a userset would be everybody by a detour.
    fn wildcards(&mut self) {
        let found = cycles::wildcards(&self.scopes);
        let mut errors = Vec::new();
        for (index, scope) in self.scopes.definitions.iter().enumerate() {
            for member in &scope.block.members {
                match &member.kind {
                    MemberKind::Relation { subjects, .. } => {
                        for subject in subjects {
                            errors.extend(self.wildcard_userset(scope, subject, &found));
                        }
                    }
                    MemberKind::Permission { expr, .. } => {
                        wildcard_arrows(&self.scopes, index, expr, &found, &mut errors)
                    }
                    MemberKind::Splice { .. } => {}
                }
            }
        }
        self.diagnostics.append(&mut errors);
    }

    fn wildcard_userset(
        &self,
        scope: &Scope<'a>,
        subject: &ast::Subject,
        found: &cycles::Wildcards<'a>,
    ) -> Option<Diagnostic> {
        let Form::Userset(relation) = &subject.form else {
            return None;
        };
        let subject_type = subject.subject_type.text.as_str();
        if subject_type == scope.block.name.text {
            return None;
        }
        let via = found.via(&self.scopes, *self.scopes.by_name.get(subject_type)?, &relation.text)?;
        let message = format!("`{subject_type}#{}` cannot be a subject: {via}", relation.text);
        let hint = format!("name a permission of `{subject_type}` that includes `{}`", relation.text);
        Some(Diagnostic::error("wildcard-userset", subject.span.0.clone(), message).with_hint(hint))
    }

    fn cycles(&mut self) {
        self.diagnostics.extend(cycles::alias_cycles(&self.scopes));
        self.diagnostics.extend(cycles::exclusion_cycles(&self.scopes));
    }

    fn annotations(&mut self, steps_max: usize) {
        self.diagnostics.extend(typecheck::annotations(&self.scopes, steps_max));
    }
}

/// Recursion is bounded by the parser.
fn wildcard_arrows<'a>(
    scopes: &Scopes<'a>,
    definition: usize,
    expr: &'a ast::Expr,
    found: &cycles::Wildcards<'a>,
    errors: &mut Vec<Diagnostic>,
) {
    match &expr.kind {
        ExprKind::Nil | ExprKind::SelfSubject | ExprKind::Name(_) => {}
        ExprKind::Arrow { relation, .. } => {
            if let Some(via) = found.via(scopes, definition, &relation.text) {
                let message = format!("an arrow cannot start at {}: {via}", quoted(&relation.text));
                errors.push(Diagnostic::error("arrow-on-wildcard", relation.span.0.clone(), message));
            }
        }
        ExprKind::Paren(inner) => wildcard_arrows(scopes, definition, inner, found, errors),
        ExprKind::Chain { operands, .. } => {
            for operand in operands {
                wildcard_arrows(scopes, definition, operand, found, errors);
            }
        }
    }
}

/// So that the same names are suggested every time.
fn in_source_order<'a>(scope: &Scope<'a>) -> impl Iterator<Item = &'a str> {
    scope.block.members.iter().filter_map(|member| match &member.kind {
        MemberKind::Relation { name, .. } | MemberKind::Permission { name, .. } => Some(name.text.as_str()),
        MemberKind::Splice { .. } => None,
    })
}

// --- the schema -------------------------------------------------------------------------------------------------

/// Carries a tree without errors over. An error here is one that the checks should have found.
fn definitions(file: &File) -> Result<(Vec<Definition>, HashMap<TypeName, usize>), Diagnostic> {
    let mut definitions = Vec::new();
    let mut by_name = HashMap::new();
    for item in &file.items {
        match &item.kind {
            ItemKind::Definition(block) => {
                let name = type_name(&block.name)?;
                by_name.insert(name.clone(), definitions.len());
                let members = block.members.iter().map(member).collect::<Result<_, _>>()?;
                definitions.push(Definition { name, doc: item.trivia.doc(), members });
            }
            ItemKind::Use(_) | ItemKind::Caveat(_) | ItemKind::Partial(_) => {}
            ItemKind::Import(_) => return Err(unchecked(&item.span.0)),
        }
    }
    Ok((definitions, by_name))
}

fn unchecked(span: &Range<usize>) -> Diagnostic {
    Diagnostic::error("internal", span.clone(), "an internal error: this went unchecked")
}

fn type_name(name: &ast::Name) -> Result<TypeName, Diagnostic> {
    TypeName::new(name.text.as_str()).map_err(|_| unchecked(&name.span.0))
}

fn relation_name(name: &ast::Name) -> Result<RelationName, Diagnostic> {
    RelationName::new(name.text.as_str()).map_err(|_| unchecked(&name.span.0))
}

fn member(member: &ast::Member) -> Result<Member, Diagnostic> {
    let doc = member.trivia.doc();
    match &member.kind {
        MemberKind::Relation { name, word, subjects } => {
            let name = relation_name(name)?;
            // `T#...` and `T` are one form, and were found to stand there once.
            let subjects = subjects.iter().map(allowed_subject).collect::<Result<_, _>>()?;
            let is_parent = match word {
                RelationWord::Relation => false,
                RelationWord::Parent => true,
            };
            Ok(Member::Relation(Relation { name, doc, subjects, is_parent }))
        }
        MemberKind::Permission { name, annotation, expr } => {
            let types = annotation.as_ref().map(|types| types.iter().map(type_name).collect::<Result<_, _>>());
            let (name, subject_types) = (relation_name(name)?, types.transpose()?);
            Ok(Member::Permission(Permission { name, doc, subject_types, expr: expression(expr)? }))
        }
        MemberKind::Splice { .. } => Err(unchecked(&member.span.0)),
    }
}

fn allowed_subject(subject: &ast::Subject) -> Result<AllowedSubject, Diagnostic> {
    let form = match &subject.form {
        Form::Object => SubjectForm::Object,
        Form::Userset(name) => SubjectForm::Userset(relation_name(name)?),
        Form::Wildcard => SubjectForm::Wildcard,
    };
    let caveat =
        subject.caveat.as_ref().map(|name| CaveatName::new(name.text.as_str()).map_err(|_| unchecked(&name.span.0)));
    let (caveat, expires) = (caveat.transpose()?, subject.expiration.is_some());
    Ok(AllowedSubject { subject_type: type_name(&subject.subject_type)?, form, caveat, expires })
}

/// Recursion is bounded by the parser.
fn expression(expr: &ast::Expr) -> Result<Expr, Diagnostic> {
    Ok(match &expr.kind {
        ExprKind::Nil => Expr::Nil,
        ExprKind::SelfSubject => Expr::Itself,
        ExprKind::Name(name) => Expr::Member(relation_name(name)?),
        ExprKind::Arrow { relation, target, sign } => {
            let quantifier = match sign {
                ArrowSign::Arrow | ArrowSign::Any => Quantifier::Any,
                ArrowSign::All => Quantifier::All,
            };
            Expr::Arrow { relation: relation_name(relation)?, target: relation_name(target)?, quantifier }
        }
        ExprKind::Paren(inner) => expression(inner)?,
        ExprKind::Chain { operator, operands } => {
            let mut operands = operands.iter().map(expression).collect::<Result<Vec<Expr>, _>>()?;
            match operator {
                Operator::Union => Expr::Union(flattened(operands, Operator::Union)),
                Operator::Intersection => Expr::Intersection(flattened(operands, Operator::Intersection)),
                Operator::Exclusion => {
                    // `a - b - c` is `a - (b + c)` in Kleene's logic too, and a long chain does not nest.
                    let subtracted = operands.split_off(1.min(operands.len()));
                    let base = operands.pop().ok_or_else(|| unchecked(&expr.span.0))?;
                    let subtracted = flattened(subtracted, Operator::Union);
                    let subtracted = match <[Expr; 1]>::try_from(subtracted) {
                        Ok([one]) => one,
                        Err(several) => Expr::Union(several),
                    };
                    Expr::Exclusion(Box::new(base), Box::new(subtracted))
                }
            }
        }
    })
}

/// Operands that are the same operation again, in parentheses, are taken in.
fn flattened(operands: Vec<Expr>, operator: Operator) -> Vec<Expr> {
    let mut flat = Vec::with_capacity(operands.len());
    for operand in operands {
        match (operator, operand) {
            (Operator::Union, Expr::Union(inner)) | (Operator::Intersection, Expr::Intersection(inner)) => {
                flat.extend(inner);
            }
            (_, other) => flat.push(other),
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world to stand in, in front of each case; it takes the first line.
    const WORLD: &str = "definition user {} definition group { relation member: user | group#member }\n";

    /// `expected`: the name and place of each error, in order, as `name@line:column`; the world is line 1.
    fn check(text: &str, expected: &[&str]) -> Vec<Diagnostic> {
        let text = format!("{WORLD}{text}");
        let errors = compile(&text, &Limits::default()).err().unwrap_or_default();
        let found: Vec<String> = errors
            .iter()
            .map(|error| {
                let (line, column) = error.line_column(&text);
                format!("{}@{line}:{column}", error.name)
            })
            .collect();
        assert_eq!(found, expected, "{text}\n{errors:#?}");
        errors
    }

    fn schema(text: &str) -> Schema {
        compile(text, &Limits::default()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}")).schema
    }

    /// The meaning of one expression over `a`, `b`, `c`, `d` and the relation `p: doc`.
    fn meaning(expr: &str) -> String {
        let text = format!(
            "definition u {{}} definition doc {{ relation a: u; relation b: u; relation c: u; relation d: u; \
             relation p: doc; permission q = {expr} }}"
        );
        match schema(&text).definition("doc").and_then(|doc| doc.member("q")) {
            Some(Member::Permission(permission)) => permission.expr.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plus_binds_tightest_and_minus_loosest() {
        for (written, read) in [
            ("a", "a"),
            ("nil", "nil"),
            ("a + b + c", "a + b + c"),
            ("a - b + c", "a - (b + c)"),
            ("a - b - c", "a - (b + c)"),
            ("a - (b - c)", "a - (b - c)"),
            ("(a - b) - c", "(a - b) - c"),
            ("a & b + c", "a & (b + c)"),
            ("a + b & c", "(a + b) & c"),
            ("a & b - c & d", "(a & b) - (c & d)"),
            ("a + b - c & d", "(a + b) - (c & d)"),
            ("((a) + (b + c))", "a + b + c"),
            ("p->q + p.any(a) + p.all(b)", "p->q + p->a + p.all(b)"),
            ("a +\n b", "a + b"),
            ("(a\n + b)", "a + b"),
            ("a /* x\n */ + b", "a + b"),
        ] {
            assert_eq!(meaning(written), read, "{written}");
        }
    }

    #[test]
    fn statements_end_where_they_should() {
        check("definition doc { relation a: user; relation b: user permission c = a }", &["syntax@2:53"]);
        check("definition doc { relation a: user; relation b: user; permission c = a }", &[]);
        check("definition doc { relation a: user\nrelation b: user\npermission c = nil\npermission d = a + b }", &[]);
        check("definition doc { relation a: user:*\nrelation b: user#...\npermission c = (a)\npermission d = b }", &[]);
        check("definition doc {} definition x {} ; definition y {}", &[]);
        check("definition doc {\n\trelation a:\n\tuser |\n\tgroup#member\r\n\tpermission b =\r\n\t(a)\r\n}", &[]);
        // An operator after a newline does not carry on.
        let errors =
            check("definition doc {\nrelation a: user\npermission b = a\n  + a\npermission c = b\n}", &["syntax@5:3"]);
        assert!(errors[0].hint.as_ref().unwrap().contains("at the end of the line before"));
        check("definition doc {\nrelation a: user\n  | group\nrelation b: user }", &["syntax@4:3"]);
    }

    #[test]
    fn words_are_words_in_their_place_only() {
        check(
            "definition doc { relation any: user; relation all: user; relation parent: doc; relation self: user
             relation use: user; relation expiration: user; relation and: user; relation import: user
             permission partial = any + all + parent->any + parent.all(all) + self + use + and }",
            &[],
        );
        check("definition doc { relation with: user }", &["keyword-as-name@2:27"]);
        check("definition doc { relation nil: user }", &["keyword-as-name@2:27"]);
        check("definition doc { permission relation = nil }", &["keyword-as-name@2:29"]);
        check("definition doc { parent p: doc }", &["missing-use@2:18"]);
        check("definition doc { permission p = self }", &["unknown-relation@2:33"]);
    }

    #[test]
    fn names_exist_and_the_likely_one_is_told() {
        for (text, expected, hint) in [
            ("definition d { relation a: usr }", "unknown-type@2:28", "did you mean `user`?"),
            ("definition d { relation a: group#membr }", "unknown-relation@2:34", "did you mean `member`?"),
            ("definition d { relation viewer: user; permission v = viwer }", "unknown-relation@2:54", "`viewer`"),
            ("definition d { relation parent: d; permission v = parnt->v }", "unknown-relation@2:51", "`parent`"),
            ("definition d { relation a: user with expiration }", "unknown-caveat@2:38", "`use expiration`"),
            ("use expirations", "use-too-late@2:1", "at the top"),
            ("defintion d { relation a: user }", "syntax@2:1", "did you mean `definition`?"),
            ("definition d { relaton a: user; permission b = a }", "syntax@2:16", "did you mean `relation`?"),
            ("definition Doc {}", "invalid-name@2:12", "write `doc`"),
            ("definition d { relation a_: user }", "invalid-name@2:26", ""),
            ("definition d { relation p: d; permission v = p->X }", "invalid-name@2:49", ""),
        ] {
            let text = format!("{WORLD}{text}");
            let errors = compile(&text, &Limits::default()).unwrap_err();
            let (line, column) = errors[0].line_column(&text);
            assert_eq!(format!("{}@{line}:{column}", errors[0].name), expected, "{text}\n{errors:#?}");
            assert!(errors[0].hint.as_deref().unwrap_or_default().contains(hint), "{text}\n{errors:#?}");
        }
        check("definition d { relation a: user | group | group#member | user:* }", &[]);
    }

    #[test]
    fn all_errors_are_told_at_once() {
        check(
            "definition doc {
               relation a: nobody
               relation b user
               permission c = b + d
               permission e = a +
               permission f = a->x->y
               relation g: user | user
             }
             definition doc {}
             nonsense
             definition last { relation $: user; relation h: user; relation h: group }",
            &[
                "unknown-type@3:28",
                "syntax@4:27",
                "unknown-relation@5:35",
                "keyword-as-name@7:16",
                "chained-arrow@7:31",
                "duplicate-subject@8:35",
                "duplicate-name@10:25",
                "syntax@11:14",
                "unknown-character@12:41",
                "duplicate-name@12:77",
            ],
        );
        check("definition doc { relation a: user\ndefinition other { relation b: doc#a }", &["unclosed-brace@2:16"]);
        check("definition doc { relation a: user } }", &["syntax@2:37"]);
        check("definition doc { /* not closed", &["unclosed-brace@2:16", "unclosed-comment@2:18"]);
        check("definition doc { permission a = (b - c\npermission d = nil }", &["syntax@3:1"]);
        check("relation a: user", &["syntax@2:1"]);
    }

    #[test]
    fn each_name_stands_for_one_thing() {
        check("definition a {} definition a {}", &["duplicate-name@2:28"]);
        check("definition a { relation x: user; permission x = nil }", &["duplicate-name@2:45"]);
        check("definition a { relation x: user } definition b { relation x: user }", &[]);
        check("definition a { relation x: user | user#... }", &["duplicate-subject@2:35"]);
        check("definition a { relation x: user | user:* | group | group#member }", &[]);
        check("caveat user(a int) { a > 1 }", &["duplicate-name@2:8"]);
        check("caveat c(a int) { a > 1 }\ncaveat c(a int) { a > 2 }", &["duplicate-name@3:8"]);
    }

    #[test]
    fn arrows_start_at_relations_without_wildcards() {
        check("definition d { relation p: d; permission a = nil; permission b = a->b }", &["arrow-on-permission@2:66"]);
        check("definition d { relation p: d | user:*; permission b = p->b }", &["arrow-on-wildcard@2:55"]);
        check("definition d { relation p: d | user:*; permission b = p.all(b) }", &["arrow-on-wildcard@2:55"]);
        let through = "definition d { relation o: user:*; relation p: d#o; permission b = p->b }";
        check(through, &["arrow-on-wildcard@2:68"]);
        // A permission is not followed, and a wildcard beside the arrow is fine.
        check("definition d { relation o: user:*; permission q = o; relation p: d#q; permission b = p->b + o }", &[]);
        check("definition d { permission b = (b + b)->b }", &["arrow-on-expression@2:31"]);
    }

    #[test]
    fn usersets_of_others_have_no_wildcard() {
        let open = "definition t { relation open: user:*; relation inner: t#open; permission all = open }\n";
        check(&format!("{open}definition d {{ relation a: t#open }}"), &["wildcard-userset@3:28"]);
        check(&format!("{open}definition d {{ relation a: user | t#inner }}"), &["wildcard-userset@3:35"]);
        check(&format!("{open}definition d {{ relation a: t#all | t:* }}"), &[]);
    }

    #[test]
    fn aliases_do_not_run_in_circles() {
        check("definition d { permission a = a }", &["alias-cycle@2:31"]);
        check("definition d { permission a = (b); permission b = c; permission c = b }", &["alias-cycle@2:51"]);
        check("definition d { relation x: user; permission a = x + b; permission b = x + a }", &[]);
        check("definition d { relation p: d; permission a = p->a }", &[]);
        check("definition d { relation x: user; permission a = b; permission b = x }", &[]);
    }

    #[test]
    fn nothing_depends_on_its_own_absence() {
        let e = "exclusion-cycle";
        check("definition d { relation x: user; permission a = x - a }", &[&format!("{e}@2:53")]);
        check("definition d { relation x: user; permission a = x - (x & (x + a)) }", &[&format!("{e}@2:63")]);
        check("definition d { relation x: user; permission a = x - (x - a) }", &[&format!("{e}@2:58")]);
        check("definition d { relation x: user; permission a = x - b; permission b = x + a }", &[&format!("{e}@2:53")]);
        check("definition d { relation p: d; relation x: user; permission a = x - p->a }", &[&format!("{e}@2:68")]);
        check(
            "definition d { relation x: user | d#a; relation y: user; permission a = y - x }",
            &[&format!("{e}@2:77")],
        );
        let two = "definition d { relation p: f; relation x: user; permission a = x - p->b }
                   definition f { relation q: d; permission b = q.all(a) }";
        let errors = check(two, &[&format!("{e}@2:68")]);
        assert!(errors[0].message.ends_with("`d#a` → `f#b` → `d#a`"), "{}", errors[0].message);
        // Cycles beside the right operand, and right operands outside a cycle, are fine.
        check("definition d { relation p: d; relation x: user; permission a = (x + p->a) - x }", &[]);
        check("definition d { relation x: user; permission b = x - c; permission c = x; permission a = b + a }", &[]);
        // An arrow visits objects, and does not ask what the usersets of its relation hold.
        check("definition d { relation x: user; relation p: d#a; permission a = x - p->x }", &[]);
    }

    #[test]
    fn a_missing_arrow_target_is_no_error() {
        check("definition d { relation p: user | group; permission a = p->member; permission b = p->nothing }", &[]);
    }

    /// Of every error: its place, and its message and hint.
    fn told(text: &str) -> Vec<String> {
        let errors = compile(text, &Limits::default()).err().unwrap_or_default();
        let told = errors.iter().map(|error| {
            let (line, column) = error.line_column(text);
            let hint = error.hint.as_ref().map(|hint| format!(" / {hint}")).unwrap_or_default();
            format!("{line}:{column} {}{hint}", error.message)
        });
        told.collect()
    }

    #[test]
    fn caveats_are_compiled_with_the_schema() {
        let schema = schema(
            "use expiration
             definition user {}
             // Working hours.
             caveat at_work(hour int, days list<map<string>>) {
               hour > 8 &&
                 size(days) > 0
             }
             caveat team/c(a any) { a == 1 }
             definition doc {
               relation a: user | user with at_work | user with expiration | user:* with team/c and expiration
             }",
        );
        let caveat = schema.caveat("at_work").unwrap();
        let parameters: Vec<String> = caveat.parameters.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        assert_eq!(
            (caveat.doc.as_str(), parameters.join(", ")),
            ("Working hours.", "hour: int, days: list<map<string>>".to_owned())
        );
        assert_eq!(caveat.body, "hour > 8 &&\n  size(days) > 0");
        let outcome = |hour: i64| {
            let stored = serde_json::json!({"hour": hour, "days": [{"a": "b"}]}).as_object().unwrap().clone();
            caveat.compiled.evaluate(&stored, &serde_json::Map::new())
        };
        assert_eq!(outcome(9), crate::condition::Outcome::True);
        assert_eq!(outcome(8), crate::condition::Outcome::False);
        let names: Vec<&str> = schema.caveats().iter().map(|caveat| caveat.name.as_str()).collect();
        assert_eq!(names, ["at_work", "team/c"]);
        assert!(schema.caveat("user").is_none());
        let forms: Vec<String> =
            schema.definition("doc").unwrap().relation("a").unwrap().subjects.iter().map(ToString::to_string).collect();
        let expected = ["user", "user with at_work", "user with expiration", "user:* with team/c and expiration"];
        assert_eq!(forms, expected);
    }

    #[test]
    fn what_is_wrong_in_a_caveat_is_placed_in_the_schema() {
        for (text, expected) in [
            ("// é\ncaveat c(a int) {\n  a > 1 &&\n  b\n}", vec!["4:3 unknown parameter `b`"]),
            ("caveat c(a int, b int) { a > 1 }", vec!["1:17 parameter `b` is never used"]),
            ("caveat c(a int, a int) { a > 1 }", vec!["1:17 parameter `a` is declared twice"]),
            ("caveat c(a int) { a + 1 }", vec!["1:19 the expression is int; a caveat must be true or false"]),
            ("caveat c(a integer) { a > 1 }", vec!["1:12 unknown parameter type `integer`"]),
            ("caveat c(a strin) { a == 'x' }", vec!["1:12 unknown parameter type `strin` / did you mean `string`?"]),
            ("caveat c(a list) { a == [] }", vec!["1:12 `list` takes one type in `<>`, found 0"]),
            ("caveat c(a int<any>) { a == 1 }", vec!["1:12 `int` takes no type in `<>`, found 1"]),
            ("caveat c(a int) { }", vec!["1:17 caveat `c` has no expression"]),
            (
                "definition u { relation r: u with at_wrk }\ncaveat at_work(a int) { a > 1 }",
                vec!["1:35 unknown caveat `at_wrk` / did you mean `at_work`?"],
            ),
            (
                "definition u { relation r: u with c | u with c }\ncaveat c(a int) { a > 1 }",
                vec!["1:39 `u with c` stands twice in relation `r`"],
            ),
        ] {
            let found = told(text);
            assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{text}\n{found}");
            }
        }
        // Not within a string of the condition, and after characters of several bytes.
        let text = "caveat c(a string) { a == 'é}' && a == wrong }";
        let errors = compile(text, &Limits::default()).unwrap_err();
        assert_eq!(text.get(errors[0].span.clone()), Some("wrong"), "{errors:#?}");
    }

    #[test]
    fn self_is_an_expression_under_its_flag() {
        let schema = schema("use self definition u { relation r: u; permission p = self + (r - self) }");
        match schema.definition("u").unwrap().member("p") {
            Some(Member::Permission(permission)) => assert_eq!(permission.expr.to_string(), "self + (r - self)"),
            other => panic!("{other:?}"),
        }
        assert_eq!(told("definition u { permission p = self }").len(), 1);
        assert_eq!(told("use self definition u { relation self: u }").len(), 1);
    }

    #[test]
    fn parents_are_flagged_relations_of_plain_objects() {
        let schema = schema(
            "use hierarchy
             definition org { relation parent: org }
             definition folder { parent above: folder | org; relation viewer: org; permission view = above->view }",
        );
        let parents = |of: &str| -> Vec<String> {
            let of = TypeName::new(of).unwrap();
            schema.parents(&of).map(|relation| relation.name.to_string()).collect()
        };
        assert_eq!((parents("folder"), parents("org"), parents("none")), (vec!["above".to_owned()], vec![], vec![]));
        for form in ["u#p", "u:*", "u with c", "u with expiration"] {
            let text = format!(
                "use hierarchy use expiration caveat c(a int) {{ a > 1 }} definition u {{ parent p: u | {form} }}"
            );
            let errors = compile(&text, &Limits::default()).unwrap_err();
            assert_eq!(errors.iter().map(|error| error.name).collect::<Vec<_>>(), ["parent-subject"], "{text}");
        }
    }

    #[test]
    fn partials_are_spliced_in() {
        let schema = schema(
            "use partial
             definition user {}
             definition doc {
               relation owner: user
               ...view
               permission edit = owner
             }
             // For documents.
             partial view {
               // Who sees it.
               relation viewer: user
               ...nothing
               ...comment
             }
             partial comment { permission comment = viewer + owner }
             partial nothing {}
             partial doc { relation unused: user; permission elsewhere = of_the_definition }
             definition folder { relation owner: user; ...view }",
        );
        let doc = schema.definition("doc").unwrap();
        let names: Vec<&str> = doc.members.iter().map(|member| member.name().as_str()).collect();
        assert_eq!(names, ["owner", "viewer", "comment", "edit"]);
        assert_eq!(doc.relation("viewer").unwrap().doc, "Who sees it.");
        assert!(
            schema.definition("view").is_none() && schema.definition("folder").unwrap().member("comment").is_some()
        );
    }

    #[test]
    fn what_is_wrong_with_a_splice_is_told_there() {
        for (text, expected) in [
            ("definition d { ...p }", vec!["2:19 unknown partial `p`"]),
            ("partial view {}\ndefinition d { ...viw }", vec!["3:19 unknown partial `viw` / did you mean `view`?"]),
            (
                "definition u {}\ndefinition d { ...u }",
                vec!["3:19 unknown partial `u` / `u` is a definition, and only partials are spliced"],
            ),
            // What an unknown partial may hold is not missed as well.
            ("definition d { ...p\n permission a = b }", vec!["2:19 unknown partial `p`"]),
            ("partial p { ...q }", vec!["2:16 unknown partial `q`"]),
            (
                "partial p { relation a: d }\ndefinition d {\n ...p\n relation a: d }",
                vec!["4:5 `a` of partial `p` is declared twice here / `d` declares it on line 5"],
            ),
            (
                "partial p { relation a: d }\npartial q { relation a: d }\ndefinition d { ...p; ...q }",
                vec!["4:25 `a` of partial `q` is declared twice here / it comes from partial `p` already"],
            ),
            (
                "partial p { relation a: d }\ndefinition d { ...p; ...p }",
                vec!["3:25 partial `p` is spliced twice into `d`"],
            ),
            (
                "partial p { relation a: d; relation a: d }\ndefinition d { ...p }",
                vec!["2:37 `a` is declared twice / the first is on line 2"],
            ),
            (
                "partial a { ...b }\npartial b { ...c }\npartial c { ...a; ...b }\ndefinition d { ...a }",
                vec![
                    "4:16 partial `a` contains itself: `a` → `b` → `c` → `a`",
                    "4:22 partial `b` contains itself: `b` → `c` → `b`",
                ],
            ),
            ("partial p { relation a: nobody }", vec!["2:25 unknown type `nobody`"]),
            (
                "partial p { permission a = missing }\ndefinition d { ...p }\ndefinition e { ...p }",
                vec!["2:28 unknown relation or permission `missing`"],
            ),
            ("partial p {}\npartial p {}", vec!["3:9 `p` is declared twice / the first is on line 2"]),
        ] {
            assert_eq!(told(&format!("use partial\n{text}")), expected, "{text}");
        }
        assert!(told("definition d { ...p }")[0].starts_with("1:16 `...name` is understood only under `use partial`"));
    }

    #[test]
    fn a_short_text_does_not_stand_for_a_long_one() {
        let wide: String = (0..2_000).map(|n| format!("permission a{n} = nil\n")).collect();
        let many: String = (0..5_000).map(|n| format!("definition d{n} {{ ...p }}\n")).collect();
        let chain: String = (0..9_000).map(|n| format!("partial p{n} {{ ...p{}\n ...p0\n }}\n", n + 1)).collect();
        let doubled: String = (0..9_000).map(|n| format!("partial p{n} {{ ...p{0}\n ...p{0}\n }}\n", n + 1)).collect();
        for (text, expected) in [
            (format!("use partial\npartial p {{ {wide} }}\n{many}"), "too-long"),
            (format!("use partial\n{chain} partial p9000 {{}} {}", many.replace("...p ", "...p0 ")), "partial-cycle"),
            (format!("use partial\n{doubled} partial p9000 {{}} definition d {{ ...p0 }}"), "duplicate-name"),
        ] {
            let start = std::time::Instant::now();
            let errors = compile(&text, &Limits::default()).unwrap_err();
            assert!(errors.iter().any(|error| error.name == expected), "{:#?}", errors.first());
            assert!(start.elapsed().as_secs() < 15, "{expected} {:?}", start.elapsed());
        }
    }

    #[test]
    fn annotations_hold_for_all_there_can_be() {
        const TYPES: &str = "use typechecking use self definition user { permission me: user = self }
            definition bot {} definition group { relation member: user | group#member; relation bots: bot
              permission all = member + bots }\n";
        let with = |annotation: &str, expr: &str| {
            let text = format!(
                "{TYPES}definition d {{ relation a: user; relation b: user | bot; relation g: group#all; relation p: d
                 relation w: bot:*; permission deep = p->deep + a\npermission x: {annotation} = {expr}\n}}"
            );
            told(&text).join("; ")
        };
        for (annotation, expr) in [
            ("user", "a"),
            ("user | bot", "a"),
            ("user", "a & b"),
            ("user", "a - b"),
            ("user", "b & (b & a)"),
            ("user", "nil"),
            ("user", "deep"),
            ("user | bot", "g"),
            ("bot | user", "p->b + p.all(a)"),
            ("d", "self"),
            ("bot", "w & b"),
        ] {
            assert_eq!(with(annotation, expr), "", "{annotation} = {expr}");
        }
        let hint = "name them too, or leave out what leads to them";
        let beyond =
            |types: &str| format!("6:15 permission `x` may hold for {types}, beyond the types it names / {hint}");
        for (annotation, expr, types) in [
            ("user", "b", "`bot`"),
            ("user", "a + b", "`bot`"),
            ("user", "b - a", "`bot`"),
            ("bot", "a & b", "`user`"),
            ("user", "g", "`bot`"),
            ("user", "p->b", "`bot`"),
            ("user", "p.all(b)", "`bot`"),
            ("user", "self", "`d`"),
            ("user", "w", "`bot`"),
            ("group", "g + self", "`user`, `bot`, `d`"),
        ] {
            assert_eq!(with(annotation, expr), beyond(types), "{annotation} = {expr}");
        }
        assert!(with("usr", "a").contains("unknown type `usr` / did you mean `user`?"));
        assert!(with("user | user", "a").contains("`user` stands twice"));
        let kept = schema(&format!("{TYPES}definition d {{ relation a: user; permission x: user | bot = a }}"));
        match kept.definition("d").unwrap().member("x") {
            Some(Member::Permission(permission)) => {
                let types: Vec<&str> = permission.subject_types.iter().flatten().map(TypeName::as_str).collect();
                assert_eq!(types, ["user", "bot"]);
            }
            other => panic!("{other:?}"),
        }
        let limits = Limits { schema_type_steps_max: 5, ..Limits::default() };
        let text = format!("{TYPES}definition d {{ relation g: group#all; permission x: user | bot = g }}");
        assert_eq!(compile(&text, &limits).unwrap_err()[0].name, "too-long");
        assert!(compile(&text, &Limits::default()).is_ok());
    }

    #[test]
    fn one_text_has_no_files_beside_it() {
        let errors =
            compile("use import\nimport \"./a.zed\"\ndefinition u { relation r: elsewhere }", &Limits::default());
        let errors = errors.unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert_eq!(
            (errors[0].name, errors[0].message.as_str()),
            ("import", "there is no file `./a.zed` beside this text")
        );
        assert!(compile("use import\ndefinition u {}", &Limits::default()).is_ok());
    }

    #[test]
    fn warnings_are_named_and_silenced() {
        let warned = |text: &str| {
            let text = format!("{WORLD}{text}");
            let compiled = compile(&text, &Limits::default()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
            compiled.warnings.into_iter().map(|warning| (warning.name, warning.hint)).collect::<Vec<_>>()
        };
        let mixed = "definition d { relation a: user\n%\npermission b = a - a + a & (a + a) }";
        let found = warned(&mixed.replace('%', ""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.as_ref().unwrap().contains("`a - ((a + a) & (a + a))`"), "{found:?}");
        for comment in [
            "// procura-ignore: mixed-operators",
            "// What it is.\n// spicedb-ignore-warning: mixed-operators-without-parentheses",
            "/* procura-ignore: x, mixed-operators */",
        ] {
            assert_eq!(warned(&mixed.replace('%', comment)), [], "{comment}");
        }
        assert_eq!(warned(&mixed.replace('%', "// procura-ignore: other")).len(), 1);
        assert_eq!(warned("definition d { relation a: user; permission b = a - (a + a) - a }"), []);
        let missing = "definition d { relation p: user | group; permission b = p->member + p->nothing }";
        assert_eq!(warned(missing).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["arrow-target-missing"; 2]);
        let ignored = "definition d { relation p: group#member; permission b = p->member; permission c = p->x }";
        let names = warned(ignored).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names, ["arrow-target-missing", "arrow-ignores-userset"]);
    }

    #[test]
    fn a_schema_holds_what_was_written() {
        let text = "// People.\ndefinition user {}\n\n// Licence\n\n/* A team. */\ndefinition a/b/team {\n  // Who.\n  \
                    relation member: user | user#... // not doc\n  permission all = member\n}\n";
        // `user#...` is `user`, so it stands there twice.
        assert!(compile(text, &Limits::default()).is_err());
        let schema = schema(&text.replace(" | user#...", " | user:* | a/b/team#all"));
        let team = schema.definition("a/b/team").unwrap();
        assert_eq!((schema.definitions().len(), team.doc.as_str()), (2, "A team."));
        assert_eq!(schema.definition("user").unwrap().doc, "People.");
        let member = team.relation("member").unwrap();
        let forms: Vec<String> = member.subjects.iter().map(ToString::to_string).collect();
        assert_eq!((member.doc.as_str(), forms.join(" | ")), ("Who.", "user | user:* | a/b/team#all".to_owned()));
        assert_eq!(schema.digest().len(), 64);
        assert_eq!(
            compile("", &Limits::default()).unwrap().schema.digest(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn limits_hold() {
        let nested =
            |depth: usize| format!("definition d {{ permission a = {}nil{} }}", "(".repeat(depth), ")".repeat(depth));
        let first = |text: &str| compile(text, &Limits::default()).err().map(|errors| errors[0].name);
        assert_eq!(first(&nested(64)), None);
        assert_eq!(first(&nested(65)), Some("too-deep"));
        assert_eq!(first(&nested(400_000)), Some("too-deep"));
        assert_eq!(first(&" ".repeat((1 << 20) + 1)), Some("too-long"));
        let many = |count: usize| (0..count).map(|n| format!("definition d{n} {{}}\n")).collect::<String>();
        assert_eq!(first(&many(10_000)), None);
        assert_eq!(first(&many(10_001)), Some("too-many-definitions"));
        let errors = compile(&"definition d { relation a: b }\n".repeat(5_000), &Limits::default()).unwrap_err();
        assert!(errors.len() == 1_001 && errors[1_000].name == "too-many");
    }

    /// Everything that a crafted text can make long, at the size of the limit, on a stack of 2 MiB.
    #[test]
    fn a_text_at_the_limit_takes_no_square_of_time() {
        let chain = |operator: &str| {
            format!("definition d {{ relation a: d; permission p = {}a }}", format!("a {operator} ").repeat(200_000))
        };
        let members = |count: usize, member: &dyn Fn(usize) -> String| {
            let members: String = (0..count).map(member).collect();
            format!("definition d {{ relation p: d\n{members} }}")
        };
        let wide: String = (0..9_000).map(|n| format!("definition t{n} {{}}\n")).collect();
        let types: Vec<String> = (0..9_000).map(|n| format!("t{n}")).collect();
        let arrows: Vec<String> = (0..40_000).map(|n| format!("r->x{n}")).collect();
        let texts = [
            chain("+"),
            chain("&"),
            chain("-"),
            members(20_000, &|n| format!("permission a{n} = a{} + p->a{n}\n", n + 1))
                + "definition e { relation x: e }",
            members(20_000, &|n| format!("permission a{n} = p - a{}\n", (n + 1) % 20_000)),
            members(20_000, &|n| format!("permission a{n} = a{}\n", (n + 1) % 20_000)),
            members(20_000, &|n| format!("relation a{n}: d#a{}\n", (n + 1) % 20_000)),
            members(20_000, &|n| format!("permission a = b{n}\n")),
            "use typechecking\n".to_owned()
                + &members(20_000, &|n| format!("permission a{n}: d = a{}\n", (n + 1) % 20_000)),
            format!(
                "use typechecking\n{wide}definition d {{ relation r: {}\n{} }}",
                types.join("|"),
                (0..9_000).map(|n| format!("permission q{n}: d = r\n")).collect::<String>()
            ),
            (0..30_000).map(|n| format!("caveat c{n}(a int) {{ a > 1 }}\n")).collect(),
            format!("{wide}definition d {{ relation r: {}\npermission p = {} }}", types.join("|"), arrows.join("+")),
            "definition ".repeat(90_000),
            "(".repeat(1 << 20),
            "{".repeat(1 << 20),
            "/*".repeat(1 << 19),
            "\"\n".repeat(1 << 19),
            "$ ".repeat(1 << 19),
            format!("caveat c(a {}", "list<".repeat(100_000)),
            format!("caveat c(a int) {{{}", "'''x\n".repeat(200_000)),
            format!("caveat c(a int) {{{}", "'\n".repeat(500_000)),
            format!("caveat c(a int) {{{}", "r'''\"".repeat(150_000)),
            format!("caveat c(a int) {{{}", "{".repeat(1_000_000)),
        ];
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || {
                for text in &texts {
                    let start = std::time::Instant::now();
                    let outcome = compile(text, &Limits::default());
                    let errors = outcome.as_ref().err().map(Vec::len);
                    let shown: String = text.chars().take(60).collect();
                    // Far above what it takes (well below one second), far below what a square would.
                    assert!(start.elapsed().as_secs() < 15, "{shown} {errors:?} {:?}", start.elapsed());
                    println!("{:?} {errors:?} {shown:?}", start.elapsed());
                    drop(super::super::print::format(text));
                }
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
