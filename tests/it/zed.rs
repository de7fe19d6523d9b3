//! Reads the part of the schema language that exists today into the oracle's own tree, so that worlds written by
//! others can be compared too.
//!
//! INVARIANT: like the oracle it shares no code with the engine. It reads what is legal and judges nothing; what it
//! does not know (caveats, flags, traits) it refuses by name.

use crate::oracle::{Admitted, Body, Expr, Form, Member, Schema, Type};

/// A form whose names are not yet resolved: type, and what follows it.
type RawForm = (String, Option<String>, bool);

enum RawBody {
    Relation(Vec<RawForm>),
    Permission(RawExpr),
}

enum RawExpr {
    Nil,
    Member(String),
    Arrow(String, String, bool),
    Union(Vec<RawExpr>),
    Intersection(Vec<RawExpr>),
    Exclusion(Box<RawExpr>, Box<RawExpr>),
}

/// The oracle's tree of a schema text, or what in it the oracle does not know.
pub fn read(text: &str) -> Result<Schema, String> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0 };
    let mut raw: Vec<(String, Vec<(String, RawBody)>)> = Vec::new();
    while reader.at < reader.tokens.len() {
        reader.word("definition")?;
        raw.push((reader.name()?, reader.body()?));
    }
    let index = |name: &str| raw.iter().position(|(n, _)| n == name).ok_or(format!("no definition `{name}`"));
    let member = |t: usize, name: &str| {
        raw[t].1.iter().position(|(n, _)| n == name).ok_or(format!("no member `{name}` in `{}`", raw[t].0))
    };
    let mut schema = Schema::default();
    for (t, (name, members)) in raw.iter().enumerate() {
        let mut known = Type { name: name.clone(), members: Vec::new() };
        for (name, body) in members {
            let body = match body {
                RawBody::Relation(forms) => {
                    let form = |(of, relation, wildcard): &RawForm| {
                        let of = index(of)?;
                        Ok(Admitted::plain(match relation {
                            Some(relation) => Form::Userset(of, member(of, relation)?),
                            None if *wildcard => Form::Wildcard(of),
                            None => Form::Object(of),
                        }))
                    };
                    Body::Relation(forms.iter().map(form).collect::<Result<_, String>>()?)
                }
                RawBody::Permission(expr) => Body::Permission(resolved(expr, &|name: &str| member(t, name))?),
            };
            known.members.push(Member { name: name.clone(), body });
        }
        schema.types.push(known);
    }
    Ok(schema)
}

fn resolved(expr: &RawExpr, member: &dyn Fn(&str) -> Result<usize, String>) -> Result<Expr, String> {
    let all = |parts: &[RawExpr]| parts.iter().map(|part| resolved(part, member)).collect::<Result<Vec<_>, String>>();
    Ok(match expr {
        RawExpr::Nil => Expr::Nil,
        RawExpr::Member(name) => Expr::Member(member(name)?),
        RawExpr::Arrow(relation, target, false) => Expr::Any(member(relation)?, target.clone()),
        RawExpr::Arrow(relation, target, true) => Expr::All(member(relation)?, target.clone()),
        RawExpr::Union(parts) => Expr::Union(all(parts)?),
        RawExpr::Intersection(parts) => Expr::Intersection(all(parts)?),
        RawExpr::Exclusion(base, sub) => {
            Expr::Exclusion(Box::new(resolved(base, member)?), Box::new(resolved(sub, member)?))
        }
    })
}

/// Names (with their `/`) and signs; comments and white space are gone. No construct here needs line ends.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = |rest: &str, end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
        let name_len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '/')).unwrap_or(rest.len());
        let used = if first.is_whitespace() || first == ';' {
            first.len_utf8()
        } else if rest.starts_with("//") {
            skip(rest, "\n")
        } else if rest.starts_with("/*") {
            skip(rest, "*/")
        } else {
            let len = if first.is_ascii_alphanumeric() {
                name_len
            } else if rest.starts_with("->") || rest.starts_with(":*") {
                2
            } else if rest.starts_with("#...") {
                4
            } else if "{}():|#+&-=.".contains(first) {
                1
            } else {
                return Err(format!("`{first}` is not read here"));
            };
            found.push(rest[..len].to_owned());
            len
        };
        rest = &rest[used..];
    }
    Ok(found)
}

struct Reader {
    tokens: Vec<String>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn takes(&mut self, token: &str) -> bool {
        let there = self.peek() == token;
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, token: &str) -> Result<(), String> {
        if self.takes(token) { Ok(()) } else { Err(format!("`{}` is not read here; `{token}` would be", self.peek())) }
    }

    fn name(&mut self) -> Result<String, String> {
        let name = self.peek().to_owned();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(format!("`{name}` stands where a name should"));
        }
        self.at += 1;
        Ok(name)
    }

    fn body(&mut self) -> Result<Vec<(String, RawBody)>, String> {
        let mut members = Vec::new();
        self.word("{")?;
        while !self.takes("}") {
            if self.takes("relation") {
                let name = self.name()?;
                self.word(":")?;
                let mut forms = vec![self.form()?];
                while self.takes("|") {
                    forms.push(self.form()?);
                }
                members.push((name, RawBody::Relation(forms)));
            } else {
                self.word("permission")?;
                let name = self.name()?;
                self.word("=")?;
                members.push((name, RawBody::Permission(self.exclusion()?)));
            }
        }
        Ok(members)
    }

    fn form(&mut self) -> Result<RawForm, String> {
        let of = self.name()?;
        let wildcard = self.takes(":*");
        let relation = if self.takes("#...") || !self.takes("#") { None } else { Some(self.name()?) };
        if self.peek() == "with" {
            return Err("`with` is not read here".to_owned());
        }
        Ok((of, relation, wildcard))
    }

    // `-` binds loosest, then `&`, then `+`; all from the left.
    fn exclusion(&mut self) -> Result<RawExpr, String> {
        let mut expr = self.intersection()?;
        while self.takes("-") {
            expr = RawExpr::Exclusion(Box::new(expr), Box::new(self.intersection()?));
        }
        Ok(expr)
    }

    fn intersection(&mut self) -> Result<RawExpr, String> {
        let mut parts = vec![self.union()?];
        while self.takes("&") {
            parts.push(self.union()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { RawExpr::Intersection(parts) })
    }

    fn union(&mut self) -> Result<RawExpr, String> {
        let mut parts = vec![self.atom()?];
        while self.takes("+") {
            parts.push(self.atom()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { RawExpr::Union(parts) })
    }

    fn atom(&mut self) -> Result<RawExpr, String> {
        if self.takes("(") {
            let inner = self.exclusion()?;
            self.word(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if name == "nil" {
            return Ok(RawExpr::Nil);
        }
        if self.takes("->") {
            return Ok(RawExpr::Arrow(name, self.name()?, false));
        }
        if self.takes(".") {
            let all = self.takes("all");
            if !all {
                self.word("any")?;
            }
            self.word("(")?;
            let target = self.name()?;
            self.word(")")?;
            return Ok(RawExpr::Arrow(name, target, all));
        }
        Ok(RawExpr::Member(name))
    }
}

#[test]
fn precedence_is_the_languages_own() {
    let text = "definition u {} definition d { relation a: u relation b: u | u:* relation c: d#a relation p: d\n\
                permission x = a - b + c & p->a\npermission y = a + b.all(x) - nil - c }";
    // The printed form has every operator in parentheses.
    let printed = read(text).unwrap().print();
    assert!(printed.contains("permission x = (a - ((b + c) & p.any(a)))"), "{printed}");
    assert!(printed.contains("permission y = (((a + b.all(x)) - nil) - c)"), "{printed}");
    assert_eq!(read(&printed).unwrap().print(), printed);
    assert!(read("caveat c(x int) { x == 1 }").is_err());
    assert!(read("definition d { relation r: d with c }").is_err());
}
