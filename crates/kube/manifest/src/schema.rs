use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text, perhaps of a certain form.
    Text {
        /// A regular expression that the whole text matches.
        pattern: Option<&'static str>,
        /// What the pattern means, for people.
        form: &'static str,
    },
    /// One of some words.
    Words(&'static [&'static str]),
    /// An integer with its OpenAPI format and limits.
    Integer {
        /// `int32` or `int64`.
        format: &'static str,
        /// The least value.
        min: Option<i64>,
        /// The greatest value.
        max: Option<i64>,
    },
    /// `true` or `false`.
    Bool,
    /// An amount, such as `100m` or `1Gi`; `cpu` says which grammar.
    Quantity {
        /// Cores rather than bytes.
        cpu: bool,
    },
    /// Known fields.
    Object(Vec<Field>),
    /// A mapping from names that the user chooses.
    Map(Box<Schema>),
    /// A list.
    List(Box<Schema>),
    /// A Kubernetes type that is handed on as it is; the text names it.
    Foreign(&'static str),
}

/// The schema of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// What it holds.
    pub kind: Kind,
    /// `null` counts as absent and is accepted.
    pub nullable: bool,
    /// For people.
    pub about: &'static str,
}

/// One field of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub schema: Schema,
    /// Must be there.
    pub required: bool,
}

impl Schema {
    pub(crate) fn new(kind: Kind, about: &'static str) -> Self {
        Schema {
            kind,
            nullable: false,
            about,
        }
    }

    /// The fields of an object; none for other kinds.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The schema as Kubernetes' structural OpenAPI v3.
    #[must_use]
    pub fn to_openapi(&self) -> Value {
        let mut out = match &self.kind {
            Kind::Text { pattern: None, .. } => json!({"type": "string"}),
            Kind::Text {
                pattern: Some(pattern),
                ..
            } => json!({"type": "string", "pattern": pattern}),
            Kind::Words(words) => json!({"type": "string", "enum": words}),
            Kind::Integer { format, min, max } => {
                let mut out = json!({"type": "integer", "format": format});
                for (key, limit) in [("minimum", min), ("maximum", max)] {
                    if let Some(limit) = limit {
                        out[key] = json!(limit);
                    }
                }
                out
            }
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Quantity { cpu } => {
                json!({"type": "string", "pattern": if *cpu { CPU_PATTERN } else { SIZE_PATTERN }})
            }
            Kind::Object(fields) => {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|field| (field.name.to_owned(), field.schema.to_openapi()))
                    .collect();
                let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
                let mut out = json!({"type": "object", "properties": properties});
                if !required.is_empty() {
                    out["required"] = json!(required);
                }
                out
            }
            Kind::Map(value) => json!({"type": "object", "additionalProperties": value.to_openapi()}),
            Kind::List(item) => json!({"type": "array", "items": item.to_openapi()}),
            Kind::Foreign(_) => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        };
        if self.nullable {
            out["nullable"] = json!(true);
        }
        if !self.about.is_empty() {
            out["description"] = json!(self.about);
        }
        out
    }

    /// The paths of all fields below, with dots; `*` stands for a chosen name or an index.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, at: &str, out: &mut Vec<String>) {
        let join = |name: &str| {
            if at.is_empty() {
                name.to_owned()
            } else {
                format!("{at}.{name}")
            }
        };
        match &self.kind {
            Kind::Object(fields) => {
                for field in fields {
                    field.schema.collect_paths(&join(field.name), out);
                }
            }
            Kind::Map(inner) | Kind::List(inner) if matches!(inner.kind, Kind::Object(_) | Kind::Map(_)) => {
                out.push(at.to_owned());
                inner.collect_paths(&join("*"), out);
            }
            _ => out.push(at.to_owned()),
        }
    }
}

/// Cores: millicores, or a number with up to three decimals.
pub(crate) const CPU_PATTERN: &str = r"^(\d+m|\d+(\.\d{1,3})?)$";
/// Bytes: integer, decimal or exponent, with an optional suffix.
pub(crate) const SIZE_PATTERN: &str = r"^(\d+(e\d+)?|\d+(\.\d+)?(e\d+)?[EPTGMK]i?)$";
