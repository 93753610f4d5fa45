//! YAML values that know their line, for messages with a place: of configurations and of manifests.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A YAML value that knows its line.
#[derive(Clone, Debug)]
pub struct Node {
    /// From 1.
    pub line: u64,
    /// What stands there.
    pub value: Value,
}

/// A value. Numbers are as YAML's core schema reads them.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// Keys in their order, each with its line; a key that stands twice is in it twice if the reader lets it be.
    Map(Vec<(String, u64, Node)>),
}

/// The one document of a text, read with `options`; `None` if it is empty or not YAML.
#[must_use]
pub fn document(text: &str, options: serde_saphyr::Options) -> Option<Node> {
    let parsed: Result<Option<Spanned<Value>>, _> = serde_saphyr::from_str_with_options(text, options);
    parsed.ok().flatten().map(node)
}

/// All documents of a text; or the line and the reason why it is not YAML.
///
/// # Errors
/// The line, from 1 (0: unknown), and the reason.
pub fn documents(text: &str) -> Result<Vec<Node>, (u64, String)> {
    let parsed: Result<Vec<Spanned<Value>>, _> = serde_saphyr::from_multiple(text);
    match parsed {
        Ok(documents) => Ok(documents
            .into_iter()
            .map(node)
            .filter(|node| !matches!(node.value, Value::Null))
            .collect()),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line());
            let message = error.without_snippet().to_string();
            Err((line, format!("this is not YAML: {}", without_advice(&message))))
        }
    }
}

/// The parser's sentence without its advice to programmers, and without the place, which stands before it.
fn without_advice(message: &str) -> &str {
    let end = [", set DuplicateKeyPolicy", " at line "]
        .iter()
        .filter_map(|part| message.find(part))
        .min()
        .unwrap_or(message.len());
    &message[..end]
}

fn node(spanned: Spanned<Value>) -> Node {
    Node {
        line: spanned.referenced.line(),
        value: spanned.value,
    }
}

impl Node {
    /// The value of a key; `None` also where this is no mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|(name, _, _)| name == key)
            .map(|(_, _, node)| node)
    }

    /// Follows keys downwards.
    #[must_use]
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The keys of a mapping with their lines and values.
    #[must_use]
    pub fn entries(&self) -> &[(String, u64, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands there.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What it is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value without its lines. What JSON cannot write (an infinite number) is null.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Integer(number) => i64::try_from(*number).map_or_else(
                |_| serde_json::Value::String(number.to_string()),
                serde_json::Value::from,
            ),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, _, inner)| (key.clone(), inner.json()))
                .collect(),
        }
    }

    /// The node that is reached by these keys (or positions in lists), or the last one on the way that is there.
    #[must_use]
    pub fn nearest(&self, keys: &[String]) -> &Node {
        let mut at = self;
        for key in keys {
            let next = match &at.value {
                Value::List(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => at.get(key),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// A scalar as it may have been written.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Bool(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            _ => self.kind().to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(i128::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(i128::from(number)))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Value>>()? {
            items.push(node(item));
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<Value>>()? {
            let key = node(key);
            entries.push((key.shown(), key.line, node(map.next_value::<Spanned<Value>>()?)));
        }
        Ok(Value::Map(entries))
    }
}
