//! Inputs that were not meant: any JSON, and right documents with something else in one place. Included by the property
//! tests of every parser of what others write. `PROPTEST_CASES=1000000 cargo test --test any_input` runs them for longer.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Texts that parsers stumble over, beside any text.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => any::<String>(),
        3 => prop::sample::select(vec![
            "", " ", "null", "true", "0", "-1", "1e400", "18446744073709551616", "0x", "10 parsecs", "1MB", "\u{0}", "'",
            "\\", "a=b", "host=", "::1", "[", "{", "2026-02-30T25:61:61Z", "1.2.3.4/33", "é", "a\nb", "%", "../..", "0/0",
            "FFFFFFFF/FFFFFFFF", "G/1", "9223372036854775807s", "-9223372036854775808",
        ]).prop_map(str::to_owned),
    ]
}

/// Any JSON of a few levels.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// `document` with up to three of its values replaced by any JSON.
pub fn damaged(document: Value) -> impl Strategy<Value = Value> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), json()), 1..4);
    changes.prop_map(move |changes| {
        let mut document = document.clone();
        for (at, value) in changes {
            let mut places = Vec::new();
            pointers(&document, String::new(), &mut places);
            if let Some(place) = document.pointer_mut(&places[at.index(places.len())]) {
                *place = value;
            }
        }
        document
    })
}

fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(inner, format!("{at}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                pointers(inner, format!("{at}/{i}"), into);
            }
        }
        _ => {}
    }
    into.push(at);
}

/// A right text with a piece cut out, doubled, or replaced by another text.
pub fn damaged_text(right: &'static str) -> impl Strategy<Value = String> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        1 => text(),
        4 => (place(), place(), text()).prop_map(move |(from, to, piece)| {
            let chars: Vec<char> = right.chars().collect();
            let (from, to) = (from.index(chars.len() + 1), to.index(chars.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            chars[..from].iter().copied().chain(piece.chars()).chain(chars[to..].iter().copied()).collect()
        }),
    ]
}

/// The members of an object; an empty one for what is none.
pub fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
