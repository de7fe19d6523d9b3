//! The oracle: what a schema and its tuples mean, worked out the naive way, to compare the engine with.
//!
//! INVARIANT: nothing here is shared with the engine, not even the reading of a schema: the oracle has a small syntax
//! tree of its own, which prints itself as text for the engine to compile. For one subject it starts every
//! (object, member) at Deny and evaluates all of them until nothing changes, stratum by stratum: no index, no early
//! exit, no memo, every tuple scanned each time. What a row's own condition is worth is settled before, by `caveats`.
//! `Flip` plants one mistake, to measure whether a world would show it.

use crate::caveats::Caveat;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Kleene's three values in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Truth {
    Deny,
    Conditional,
    Allow,
}

impl Truth {
    fn negated(self) -> Truth {
        match self {
            Truth::Deny => Truth::Allow,
            Truth::Conditional => Truth::Conditional,
            Truth::Allow => Truth::Deny,
        }
    }
}

/// Index into [`Schema::types`].
pub type T = usize;
/// Index into [`Type::members`].
pub type M = usize;
/// Index into the objects of a world.
pub type O = usize;

#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub types: Vec<Type>,
    /// What stands before the names of its caveats.
    pub prefix: String,
    /// Relations that are places in the hierarchy.
    pub parents: BTreeSet<(T, M)>,
}

#[derive(Clone, Debug)]
pub struct Type {
    pub name: String,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Relation(Vec<Admitted>),
    Permission(Expr),
}

/// What a relation takes: subjects of a form, with this caveat or none, with an end or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub form: Form,
    pub caveat: Option<Caveat>,
    pub expires: bool,
}

impl Admitted {
    pub fn plain(form: Form) -> Admitted {
        Admitted { form, caveat: None, expires: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object(T),
    Userset(T, M),
    Wildcard(T),
}

#[derive(Clone, Debug)]
pub enum Expr {
    Nil,
    /// `self`
    Itself,
    Member(M),
    /// `relation->target`; the target is a name because every subject type looks it up for itself.
    Any(M, String),
    /// `relation.all(target)`
    All(M, String),
    Union(Vec<Expr>),
    Intersection(Vec<Expr>),
    Exclusion(Box<Expr>, Box<Expr>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub of: T,
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Object(O),
    Userset(O, M),
    Wildcard(T),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub object: O,
    pub relation: M,
    pub subject: Subject,
}

/// A live tuple and what its own condition is worth.
pub type Row = (Tuple, Truth);

/// A mistake planted in the meaning, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    None,
    UnionIsIntersection,
    IntersectionIsUnion,
    ExclusionIsIgnored,
    ExclusionIsIntersection,
    AnyIsAll,
    AllIsAny,
    /// `.all` over no rows holds.
    AllOfNothingHolds,
    /// `.all` passes over rows whose type lacks the target.
    AllSkipsTypes,
    /// The arrow leaves out subjects with a `#relation`.
    ArrowSkipsUsersets,
    WildcardIsIgnored,
    WildcardTakesUsersets,
    WildcardTakesEveryType,
    UsersetIsNoMemberOfItself,
    /// A userset on a tuple is taken for its bare object.
    UsersetIsNotFollowed,
    /// `self` holds for usersets of the object too.
    SelfTakesUsersets,
    ArrowIgnoresCaveats,
    AllIgnoresCaveats,
    UsersetIgnoresCaveats,
    WildcardIgnoresCaveats,
    /// A conditional row that names the subject ends the search.
    DirectConditionalEndsIt,
    /// What is unknown counts as "no" on the right of `-`.
    ConditionalIsDenyUnderExclusion,
    /// What is unknown is passed over where all must hold.
    IntersectionSkipsConditional,
    /// A value of the request wins over the stored one.
    RequestWinsOverStored,
    /// A condition that cannot be evaluated does not hold.
    FailureIsDeny,
    /// A tuple still stands at the instant it ends.
    EndIsInclusive,
    EndIsIgnored,
}

impl Flip {
    pub const MISTAKES: [Flip; 26] = [
        Flip::UnionIsIntersection,
        Flip::IntersectionIsUnion,
        Flip::ExclusionIsIgnored,
        Flip::ExclusionIsIntersection,
        Flip::AnyIsAll,
        Flip::AllIsAny,
        Flip::AllOfNothingHolds,
        Flip::AllSkipsTypes,
        Flip::ArrowSkipsUsersets,
        Flip::WildcardIsIgnored,
        Flip::WildcardTakesUsersets,
        Flip::WildcardTakesEveryType,
        Flip::UsersetIsNoMemberOfItself,
        Flip::UsersetIsNotFollowed,
        Flip::SelfTakesUsersets,
        Flip::ArrowIgnoresCaveats,
        Flip::AllIgnoresCaveats,
        Flip::UsersetIgnoresCaveats,
        Flip::WildcardIgnoresCaveats,
        Flip::DirectConditionalEndsIt,
        Flip::ConditionalIsDenyUnderExclusion,
        Flip::IntersectionSkipsConditional,
        Flip::RequestWinsOverStored,
        Flip::FailureIsDeny,
        Flip::EndIsInclusive,
        Flip::EndIsIgnored,
    ];
}

/// One subject's truth on every (object, member), at the least fixpoint.
pub fn evaluate(schema: &Schema, objects: &[Object], tuples: &[Row], subject: Subject, flip: Flip) -> Vec<Vec<Truth>> {
    let strata = schema.strata(false).expect("the oracle answers stratified schemas only");
    let members = |o: &Object| vec![Truth::Deny; schema.types[o.of].members.len()];
    let mut held: Vec<Vec<Truth>> = objects.iter().map(members).collect();
    let highest = strata.iter().flatten().max().copied().unwrap_or(0);
    for stratum in 0..=highest {
        loop {
            let mut changed = false;
            for o in 0..objects.len() {
                for m in 0..held[o].len() {
                    if strata[objects[o].of][m] != stratum {
                        continue;
                    }
                    let at = At { schema, objects, tuples, subject, flip, held: &|o, m| held[o][m], o };
                    let now = at.member(m);
                    assert!(now >= held[o][m], "within a stratum truth only grows");
                    changed |= now != held[o][m];
                    held[o][m] = now;
                }
            }
            if !changed {
                break;
            }
        }
    }
    held
}

/// A wrong way, to measure the worlds with: depth first, Deny for what is in progress, and every interim answer
/// remembered as if it were final.
pub fn with_naive_memo(schema: &Schema, objects: &[Object], tuples: &[Row], subject: Subject, (o, m): (O, M)) -> Truth {
    type Memo = std::cell::RefCell<std::collections::HashMap<(O, M), Truth>>;
    struct Naive<'a>(&'a Schema, &'a [Object], &'a [Row], Subject, Memo);
    fn walk(naive: &Naive, o: O, m: M) -> Truth {
        if let Some(known) = naive.4.borrow().get(&(o, m)) {
            return *known;
        }
        naive.4.borrow_mut().insert((o, m), Truth::Deny);
        let &Naive(schema, objects, tuples, subject, _) = naive;
        let at = At { schema, objects, tuples, subject, flip: Flip::None, held: &|o, m| walk(naive, o, m), o };
        let found = at.member(m);
        naive.4.borrow_mut().insert((o, m), found);
        found
    }
    walk(&Naive(schema, objects, tuples, subject, Memo::default()), o, m)
}

/// One evaluation, on one object.
struct At<'a> {
    schema: &'a Schema,
    objects: &'a [Object],
    tuples: &'a [Row],
    subject: Subject,
    flip: Flip,
    /// What is held so far.
    held: &'a dyn Fn(O, M) -> Truth,
    o: O,
}

impl At<'_> {
    fn member(&self, m: M) -> Truth {
        if self.subject == Subject::Userset(self.o, m) && self.flip != Flip::UsersetIsNoMemberOfItself {
            return Truth::Allow;
        }
        match &self.schema.types[self.objects[self.o].of].members[m].body {
            Body::Relation(_) if self.flip == Flip::DirectConditionalEndsIt => {
                let named = self.rows(m).find(|(row, worth)| *row == self.subject && *worth == Truth::Conditional);
                let any = || self.rows(m).map(|row| self.row(row)).max().unwrap_or(Truth::Deny);
                named.map_or_else(any, |_| Truth::Conditional)
            }
            Body::Relation(_) => self.rows(m).map(|row| self.row(row)).max().unwrap_or(Truth::Deny),
            Body::Permission(expr) => self.expr(expr),
        }
    }

    /// The subjects of all tuples of a relation of this object, with what each row is worth.
    fn rows(&self, relation: M) -> impl Iterator<Item = (Subject, Truth)> {
        let here = move |(t, _): &&Row| t.object == self.o && t.relation == relation;
        self.tuples.iter().filter(here).map(|(t, worth)| (t.subject, *worth))
    }

    fn row(&self, (row, worth): (Subject, Truth)) -> Truth {
        let ignored = match row {
            Subject::Object(_) => false,
            Subject::Userset(..) => self.flip == Flip::UsersetIgnoresCaveats,
            Subject::Wildcard(_) => self.flip == Flip::WildcardIgnoresCaveats,
        };
        if ignored { self.subjects_of(row) } else { worth.min(self.subjects_of(row)) }
    }

    /// Whether the subject is one of those a row names.
    fn subjects_of(&self, row: Subject) -> Truth {
        let is_it = if row == self.subject { Truth::Allow } else { Truth::Deny };
        match row {
            Subject::Object(_) => is_it,
            Subject::Userset(..) if self.flip == Flip::UsersetIsNotFollowed => is_it,
            Subject::Userset(object, member) => is_it.max((self.held)(object, member)),
            Subject::Wildcard(of) => {
                let covers = match self.subject {
                    Subject::Object(_) if self.flip == Flip::WildcardTakesEveryType => true,
                    Subject::Object(object) => self.objects[object].of == of,
                    Subject::Userset(object, _) => {
                        self.flip == Flip::WildcardTakesUsersets && self.objects[object].of == of
                    }
                    Subject::Wildcard(_) => false,
                };
                if covers && self.flip != Flip::WildcardIsIgnored { Truth::Allow } else { Truth::Deny }
            }
        }
    }

    fn expr(&self, expr: &Expr) -> Truth {
        match expr {
            Expr::Nil => Truth::Deny,
            Expr::Itself => match self.subject {
                Subject::Object(object) if object == self.o => Truth::Allow,
                Subject::Userset(object, _) if object == self.o && self.flip == Flip::SelfTakesUsersets => Truth::Allow,
                Subject::Object(_) | Subject::Userset(..) | Subject::Wildcard(_) => Truth::Deny,
            },
            Expr::Member(m) => (self.held)(self.o, *m),
            Expr::Any(relation, target) => self.arrow(*relation, target, self.flip == Flip::AnyIsAll),
            Expr::All(relation, target) => self.arrow(*relation, target, self.flip != Flip::AllIsAny),
            Expr::Union(parts) => self.combined(parts, self.flip == Flip::UnionIsIntersection),
            Expr::Intersection(parts) => self.combined(parts, self.flip != Flip::IntersectionIsUnion),
            Expr::Exclusion(base, sub) => {
                let (base, sub) = (self.expr(base), self.expr(sub));
                match self.flip {
                    Flip::ExclusionIsIgnored => base,
                    Flip::ExclusionIsIntersection => base.min(sub),
                    Flip::ConditionalIsDenyUnderExclusion if sub == Truth::Conditional => base,
                    _ => base.min(sub.negated()),
                }
            }
        }
    }

    fn combined(&self, parts: &[Expr], least: bool) -> Truth {
        let parts = parts.iter().map(|part| self.expr(part));
        if least && self.flip == Flip::IntersectionSkipsConditional {
            return parts.filter(|part| *part != Truth::Conditional).min().unwrap_or(Truth::Conditional);
        }
        if least { parts.min() } else { parts.max() }.unwrap_or(Truth::Deny)
    }

    fn arrow(&self, relation: M, target: &str, all: bool) -> Truth {
        let mut found = Vec::new();
        for (row, worth) in self.rows(relation) {
            let ignored = if all { Flip::AllIgnoresCaveats } else { Flip::ArrowIgnoresCaveats };
            let worth = if self.flip == ignored { Truth::Allow } else { worth };
            let object = match row {
                Subject::Object(object) => object,
                Subject::Userset(..) if self.flip == Flip::ArrowSkipsUsersets => continue,
                Subject::Userset(object, _) => object,
                Subject::Wildcard(_) => panic!("no schema lets an arrow stand over a wildcard"),
            };
            match self.schema.types[self.objects[object].of].member(target) {
                Some(m) => found.push(worth.min((self.held)(object, m))),
                None if all && self.flip == Flip::AllSkipsTypes => {}
                None => found.push(Truth::Deny),
            }
        }
        let nothing = if all && self.flip == Flip::AllOfNothingHolds { Truth::Allow } else { Truth::Deny };
        if all { found.into_iter().min() } else { found.into_iter().max() }.unwrap_or(nothing)
    }
}

impl Type {
    pub fn member(&self, name: &str) -> Option<M> {
        self.members.iter().position(|member| member.name == name)
    }
}

impl Schema {
    /// For every member, a number not below that of what it leans on and above that of what it subtracts; `None` when
    /// a cycle passes through a subtraction. `cautious` also counts an arrow's relation among what is leant on.
    pub fn strata(&self, cautious: bool) -> Option<Vec<Vec<usize>>> {
        let mut strata: Vec<Vec<usize>> = self.types.iter().map(|t| vec![0; t.members.len()]).collect();
        let total: usize = strata.iter().map(Vec::len).sum();
        loop {
            let mut changed = false;
            for t in 0..self.types.len() {
                for (m, member) in self.types[t].members.iter().enumerate() {
                    let mut needs = strata[t][m];
                    let mut lean = |of: T, on: M, subtracted: bool| {
                        needs = needs.max(strata[of][on] + usize::from(subtracted));
                    };
                    match &member.body {
                        Body::Relation(forms) => {
                            for form in forms {
                                if let Form::Userset(of, on) = form.form {
                                    lean(of, on, false);
                                }
                            }
                        }
                        Body::Permission(expr) => self.leans(t, expr, false, cautious, &mut lean),
                    }
                    changed |= needs != strata[t][m];
                    strata[t][m] = needs;
                    if needs > total {
                        return None;
                    }
                }
            }
            if !changed {
                return Some(strata);
            }
        }
    }

    fn leans(&self, t: T, expr: &Expr, subtracted: bool, cautious: bool, lean: &mut dyn FnMut(T, M, bool)) {
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(m) => lean(t, *m, subtracted),
            Expr::Any(relation, target) | Expr::All(relation, target) => {
                if cautious {
                    lean(t, *relation, subtracted);
                }
                let Body::Relation(forms) = &self.types[t].members[*relation].body else {
                    panic!("an arrow stands over a relation");
                };
                for form in forms {
                    let (Form::Object(of) | Form::Userset(of, _) | Form::Wildcard(of)) = form.form;
                    if let Some(m) = self.types[of].member(target) {
                        lean(of, m, subtracted);
                    }
                }
            }
            Expr::Union(parts) | Expr::Intersection(parts) => {
                for part in parts {
                    self.leans(t, part, subtracted, cautious, lean);
                }
            }
            Expr::Exclusion(base, sub) => {
                self.leans(t, base, subtracted, cautious, lean);
                self.leans(t, sub, true, cautious, lean);
            }
        }
    }

    fn admitted(&self) -> impl Iterator<Item = &Admitted> {
        self.types.iter().flat_map(|t| &t.members).flat_map(|member| match &member.body {
            Body::Relation(forms) => forms.as_slice(),
            Body::Permission(_) => &[],
        })
    }

    pub fn caveat_name(&self, caveat: Caveat) -> String {
        if self.prefix.is_empty() { caveat.name().to_owned() } else { format!("{}/{}", self.prefix, caveat.name()) }
    }

    /// The schema as text, by itself.
    pub fn print(&self) -> String {
        let itself = |member: &Member| matches!(&member.body, Body::Permission(expr) if has_itself(expr));
        let mut text = String::new();
        if self.admitted().any(|form| form.expires) {
            text.push_str("use expiration\n");
        }
        if self.types.iter().flat_map(|t| &t.members).any(itself) {
            text.push_str("use self\n");
        }
        if !self.parents.is_empty() {
            text.push_str("use hierarchy\n");
        }
        text + &self.print_body()
    }

    /// Without its `use` lines. Every operator stands in parentheses, so that no precedence is assumed.
    pub fn print_body(&self) -> String {
        let mut text = String::new();
        for caveat in Caveat::ALL {
            if self.admitted().any(|form| form.caveat == Some(caveat)) {
                writeln!(text, "caveat {}{}", self.caveat_name(caveat), caveat.body()).unwrap();
            }
        }
        for (of, t) in self.types.iter().enumerate() {
            writeln!(text, "definition {} {{", t.name).unwrap();
            for (m, member) in t.members.iter().enumerate() {
                match &member.body {
                    Body::Relation(forms) => {
                        let word = if self.parents.contains(&(of, m)) { "parent" } else { "relation" };
                        let forms: Vec<String> = forms.iter().map(|form| self.print_form(form)).collect();
                        writeln!(text, "  {word} {}: {}", member.name, forms.join(" | ")).unwrap();
                    }
                    Body::Permission(expr) => {
                        writeln!(text, "  permission {} = {}", member.name, print_expr(t, expr)).unwrap();
                    }
                }
            }
            text.push_str("}\n");
        }
        text
    }

    fn print_form(&self, admitted: &Admitted) -> String {
        let form = match admitted.form {
            Form::Object(of) => self.types[of].name.clone(),
            Form::Userset(of, m) => format!("{}#{}", self.types[of].name, self.types[of].members[m].name),
            Form::Wildcard(of) => format!("{}:*", self.types[of].name),
        };
        match (admitted.caveat, admitted.expires) {
            (None, false) => form,
            (None, true) => format!("{form} with expiration"),
            (Some(caveat), false) => format!("{form} with {}", self.caveat_name(caveat)),
            (Some(caveat), true) => format!("{form} with {} and expiration", self.caveat_name(caveat)),
        }
    }
}

fn has_itself(expr: &Expr) -> bool {
    match expr {
        Expr::Itself => true,
        Expr::Nil | Expr::Member(_) | Expr::Any(..) | Expr::All(..) => false,
        Expr::Union(parts) | Expr::Intersection(parts) => parts.iter().any(has_itself),
        Expr::Exclusion(base, sub) => has_itself(base) || has_itself(sub),
    }
}

fn print_expr(t: &Type, expr: &Expr) -> String {
    let joined = |parts: &[Expr], operator: &str| {
        let parts: Vec<String> = parts.iter().map(|part| print_expr(t, part)).collect();
        format!("({})", parts.join(operator))
    };
    match expr {
        Expr::Nil => "nil".to_owned(),
        Expr::Itself => "self".to_owned(),
        Expr::Member(m) => t.members[*m].name.clone(),
        // Both spellings of one meaning.
        Expr::Any(relation, target) if target.len() % 2 == 1 => format!("{}.any({target})", t.members[*relation].name),
        Expr::Any(relation, target) => format!("{}->{target}", t.members[*relation].name),
        Expr::All(relation, target) => format!("{}.all({target})", t.members[*relation].name),
        Expr::Union(parts) => joined(parts, " + "),
        Expr::Intersection(parts) => joined(parts, " & "),
        Expr::Exclusion(base, sub) => format!("({} - {})", print_expr(t, base), print_expr(t, sub)),
    }
}
