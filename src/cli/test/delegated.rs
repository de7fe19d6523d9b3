//! Who acts for whom in a validation file: `delegations`, `suspended`, and their bounds.

use super::file::{Node, Placed, Reader, near};
use crate::cli::delegation::duration;
use crate::engine::AskedItem;
use crate::model::{
    AskedPermissions, CaveatName, Context, ObjectRef, PermissionName, RefusalReason, SubjectRef, Timestamp, TupleCaveat,
};
use serde_saphyr::Spanned;
use std::time::Duration;

/// Who acts for whom, and who is suspended.
#[derive(Debug, Default)]
pub struct Delegated {
    /// In the order they are made.
    pub delegations: Vec<Placed<Deputed>>,
    pub suspended: Vec<Placed<ObjectRef>>,
    /// `None`: a delegation may last for ever.
    pub lifetime_max: Option<Duration>,
    /// `None`: the default.
    pub depth_max: Option<u32>,
}

/// A delegation of a file.
#[derive(Debug)]
pub struct Deputed {
    /// What the file calls it.
    pub name: String,
    /// Made before.
    pub parent: Option<String>,
    /// `None`: the parent's delegate.
    pub from: Option<ObjectRef>,
    pub to: SubjectRef,
    pub items: Vec<AskedItem>,
    pub not_before: Option<Timestamp>,
    pub expires: Timestamp,
    pub redelegate: u32,
    pub revoked: bool,
    /// It must be refused, for this reason.
    pub refused: Option<RefusalReason>,
}

const KEYS: &[&str] = &[
    "id",
    "parent",
    "from",
    "to",
    "permissions",
    "within",
    "caveat",
    "items",
    "not_before",
    "expires",
    "redelegate",
    "revoked",
    "refused",
];
const ITEM_KEYS: &[&str] = &["permissions", "within", "caveat"];

type Entry = (Spanned<String>, Spanned<Node>);

/// What has been read of an item.
#[derive(Default)]
struct Item {
    permissions: Option<AskedPermissions>,
    within: Option<Vec<ObjectRef>>,
    caveat: Option<TupleCaveat>,
}

impl Item {
    fn is_given(&self) -> bool {
        self.permissions.is_some() || self.within.is_some() || self.caveat.is_some()
    }

    /// What is left out is empty: the engine refuses it, and says why.
    fn whole(self) -> AskedItem {
        AskedItem {
            permissions: self.permissions.unwrap_or(AskedPermissions::Named(Vec::new())),
            within: self.within.unwrap_or_default(),
            caveat: self.caveat,
        }
    }
}

impl Reader<'_> {
    pub(super) fn delegations(&mut self, value: &Spanned<Node>) -> Vec<Placed<Deputed>> {
        let mut made: Vec<Placed<Deputed>> = Vec::new();
        for item in self.list_or_nothing("delegations", value).unwrap_or_default() {
            let Node::Map(entries) = &item.value else {
                let hint = "such as `{id: d1, from: user:rita, to: agent:bot, permissions: [read], within: [invoice:9], \
                            expires: 2030-01-01T00:00:00Z}`";
                self.wrong_node(
                    item,
                    format!("a delegation is a mapping, this is {}", item.value.kind()),
                    Some(hint.into()),
                );
                continue;
            };
            let Some(deputed) = self.deputed(item, entries) else { continue };
            if made.iter().any(|before| before.value.name == deputed.name) {
                self.wrong_node(item, format!("a second delegation `{}`", deputed.name), None);
            }
            if let Some(parent) = &deputed.parent
                && !made.iter().any(|before| before.value.name == *parent)
            {
                let message = format!("`{parent}` is no delegation above this one");
                self.wrong_node(item, message, Some("a parent is made before its children".to_owned()));
            }
            let (line, at) = self.place(item, "", 0);
            made.push(Placed { value: deputed, line, at });
        }
        made
    }

    fn deputed(&mut self, node: &Spanned<Node>, entries: &[Entry]) -> Option<Deputed> {
        let before = self.wrongs.len();
        let (mut name, mut parent, mut from, mut to) = (None, None, None, None);
        let (mut items, mut alone) = (None, Item::default());
        let (mut not_before, mut expires, mut redelegate, mut revoked, mut refused) = (None, None, 0, false, None);
        for (key, value) in entries {
            match key.value.as_str() {
                "id" => name = self.text(key, value).map(|name| name.trim().to_owned()),
                "parent" => parent = self.text(key, value).map(|parent| parent.trim().to_owned()),
                "from" => from = self.object(key, value),
                "to" => {
                    let Some(text) = self.text(key, value).map(str::trim) else { continue };
                    match text.parse::<SubjectRef>() {
                        Ok(subject) => to = Some(subject),
                        Err(error) => self.wrong_node(value, error.to_string(), None),
                    }
                }
                "permissions" | "within" | "caveat" => self.item_part(key, value, &mut alone),
                "items" => {
                    let listed = self.list_or_nothing("items", value).unwrap_or_default();
                    items = Some(listed.iter().map(|item| self.item(item)).collect::<Vec<Item>>());
                }
                "not_before" => not_before = self.instant(key, value),
                "expires" => expires = self.instant(key, value),
                "redelegate" => redelegate = self.depth(key, value).unwrap_or(0),
                "revoked" => {
                    if let Node::Bool(said) = value.value {
                        revoked = said;
                    } else {
                        self.wrong_node(value, "`revoked` is true or false", None);
                    }
                }
                "refused" => {
                    let Some(text) = self.text(key, value).map(str::trim) else { continue };
                    refused = RefusalReason::ALL.into_iter().find(|reason| reason.as_str() == text);
                    if refused.is_none() {
                        let known: Vec<&str> = RefusalReason::ALL.iter().map(|reason| reason.as_str()).collect();
                        self.wrong_node(value, format!("`{text}` is no reason of a refusal"), near(text, &known));
                    }
                }
                other => self.wrong_node(key, format!("`{other}` is no key of a delegation"), near(other, KEYS)),
            }
        }
        let needed = |what: &str| format!("a delegation without `{what}`");
        if name.is_none() {
            self.wrong_node(node, needed("id"), Some("what the file calls it".to_owned()));
        }
        if to.is_none() && self.wrongs.len() == before {
            self.wrong_node(node, needed("to"), None);
        }
        if from.is_none() && parent.is_none() {
            self.wrong_node(node, needed("from"), Some("only a child may leave it out".to_owned()));
        }
        if expires.is_none() && self.wrongs.len() == before {
            self.wrong_node(node, needed("expires"), Some("no delegation lasts for ever".to_owned()));
        }
        if items.is_some() && alone.is_given() {
            let message = "`items` stands instead of `permissions`, `within` and `caveat`";
            self.wrong_node(node, message, None);
        }
        if self.wrongs.len() > before {
            return None;
        }
        let items = items.unwrap_or_else(|| vec![alone]).into_iter().map(Item::whole).collect();
        let (name, to, expires) = (name?, to?, expires?);
        Some(Deputed { name, parent, from, to, items, not_before, expires, redelegate, revoked, refused })
    }

    fn item(&mut self, node: &Spanned<Node>) -> Item {
        let mut item = Item::default();
        let Node::Map(entries) = &node.value else {
            self.wrong_node(node, format!("an item is a mapping, this is {}", node.value.kind()), None);
            return item;
        };
        for (key, value) in entries {
            match key.value.as_str() {
                "permissions" | "within" | "caveat" => self.item_part(key, value, &mut item),
                other => self.wrong_node(key, format!("`{other}` is no key of an item"), near(other, ITEM_KEYS)),
            }
        }
        item
    }

    fn item_part(&mut self, key: &Spanned<String>, value: &Spanned<Node>, item: &mut Item) {
        match key.value.as_str() {
            "permissions" => item.permissions = self.permissions(value),
            "within" => {
                let objects = self.list_or_nothing("within", value).unwrap_or_default();
                item.within = Some(objects.iter().filter_map(|object| self.object(key, object)).collect());
            }
            _ => item.caveat = self.caveat(value),
        }
    }

    /// A list of names, or `all`.
    fn permissions(&mut self, value: &Spanned<Node>) -> Option<AskedPermissions> {
        if let Node::Text(text) = &value.value
            && text.trim() == "all"
        {
            return Some(AskedPermissions::All);
        }
        let mut names = Vec::new();
        for item in self.list_or_nothing("permissions", value)? {
            let Node::Text(text) = &item.value else {
                let message = format!("a permission is text, this is {}", item.value.kind());
                self.wrong_node(item, message, Some("such as `read`, or `project#read`".to_owned()));
                continue;
            };
            match text.trim().parse::<PermissionName>() {
                Ok(name) => names.push(name),
                Err(error) => self.wrong_node(item, error.to_string(), None),
            }
        }
        Some(AskedPermissions::Named(names))
    }

    fn caveat(&mut self, value: &Spanned<Node>) -> Option<TupleCaveat> {
        let entries = self.map_or_nothing("caveat", value)?;
        let (mut name, mut context) = (None, Context::new());
        for (key, value) in entries {
            match key.value.as_str() {
                "name" => match CaveatName::new(self.text(key, value)?.trim()) {
                    Ok(found) => name = Some(found),
                    Err(error) => self.wrong_node(value, error.to_string(), None),
                },
                "context" => match json(&value.value) {
                    Some(serde_json::Value::Object(values)) => context = values,
                    Some(serde_json::Value::Null) => {}
                    _ => self.wrong_node(value, "`context` is a mapping of values", None),
                },
                other => {
                    let message = format!("`{other}` is no key of a caveat");
                    self.wrong_node(key, message, near(other, &["name", "context"]));
                }
            }
        }
        if name.is_none() {
            self.wrong_node(value, "a caveat without `name`", None);
        }
        Some(TupleCaveat { name: name?, context })
    }

    pub(super) fn suspended(&mut self, value: &Spanned<Node>) -> Vec<Placed<ObjectRef>> {
        let mut found = Vec::new();
        for item in self.list_or_nothing("suspended", value).unwrap_or_default() {
            let Node::Text(text) = &item.value else {
                let message = format!("a principal is `type:id`, this is {}", item.value.kind());
                self.wrong_node(item, message, None);
                continue;
            };
            match text.trim().parse::<ObjectRef>() {
                Ok(object) => {
                    let (line, at) = self.place(item, "", 0);
                    found.push(Placed { value: object, line, at });
                }
                Err(error) => self.wrong_node(item, error.to_string(), None),
            }
        }
        found
    }

    fn object(&mut self, key: &Spanned<String>, value: &Spanned<Node>) -> Option<ObjectRef> {
        let text = self.text(key, value)?.trim();
        match text.parse() {
            Ok(object) => Some(object),
            Err(error) => {
                self.wrong_node::<Node>(value, crate::model::TupleTextError::to_string(&error), None);
                None
            }
        }
    }

    /// Seconds, or a duration such as `30d`.
    pub(super) fn lifetime(&mut self, key: &Spanned<String>, value: &Spanned<Node>) -> Option<Duration> {
        if let Node::Number(number) = &value.value
            && let Some(seconds) = number.as_u64()
        {
            return Some(Duration::from_secs(seconds));
        }
        let text = self.text(key, value)?.trim();
        match duration(text) {
            Ok(duration) => Some(duration),
            Err(message) => {
                self.wrong_node(value, message, Some("such as `30d`, or seconds".to_owned()));
                None
            }
        }
    }

    /// A small number.
    pub(super) fn depth(&mut self, key: &Spanned<String>, value: &Spanned<Node>) -> Option<u32> {
        let count = self.count(key, value)?;
        let small = u32::try_from(count).ok();
        if small.is_none() {
            self.wrong_node(value, format!("`{}` is too large", key.value), None);
        }
        small
    }

    pub(super) fn count(&mut self, key: &Spanned<String>, value: &Spanned<Node>) -> Option<usize> {
        let number = if let Node::Number(number) = &value.value { number.as_u64() } else { None };
        let number = number.and_then(|number| usize::try_from(number).ok());
        if number.is_none() {
            self.wrong_node(value, format!("`{}` must be a number, 0 or more", key.value), None);
        }
        number
    }
}

/// A value as JSON; nothing where JSON has none for it.
fn json(node: &Node) -> Option<serde_json::Value> {
    Some(match node {
        Node::Null => serde_json::Value::Null,
        Node::Bool(value) => (*value).into(),
        Node::Number(number) => serde_json::Value::Number(number.clone()),
        Node::Text(text) => text.as_str().into(),
        Node::List(items) => items.iter().map(|item| json(&item.value)).collect::<Option<Vec<_>>>()?.into(),
        Node::Map(entries) => {
            let entry = |(key, value): &Entry| Some((key.value.clone(), json(&value.value)?));
            serde_json::Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
        Node::Other(_) => return None,
    })
}
