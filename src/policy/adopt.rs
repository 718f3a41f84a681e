//! A policy's text, changed so that it agrees to what its partner's files have become.
//!
//! Only what a person would write is written: comments, order and spacing of everything else stay. What
//! the result means is for [`crate::policy::compile`] to say.

use toml_edit::{Array, DocumentMut, InlineTable, Item, TableLike, Value};

use crate::terms::drift::{Drift, DriftKind};
use crate::terms::ids::FeedId;

/// Why a difference cannot be adopted; one sentence, with what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAdopted(String);

/// Adopts differences of one feed's files, and counts the version on.
///
/// A column that was added becomes one of text, sensitive until somebody who knows it says otherwise; one
/// that was renamed gets its new label as an alias; one that was removed may be missing; an order is no
/// longer asked for.
///
/// # Errors
/// [`NotAdopted`]: the first difference a person has to write by hand.
pub fn adopt(text: &str, feed: &FeedId, drifts: &[Drift]) -> Result<String, NotAdopted> {
    let by_hand = |what: &str| NotAdopted(format!("{what}; change the policy by hand"));
    let mut document: DocumentMut = text
        .parse()
        .map_err(|_| by_hand("the policy is not valid TOML"))?;
    let feeds = document
        .get_mut("feed")
        .and_then(Item::as_array_of_tables_mut)
        .ok_or_else(|| by_hand("its feeds are not written as [[feed]]"))?;
    let table = feeds
        .iter_mut()
        .find(|table| table.get("id").and_then(Item::as_str) == Some(feed.as_str()))
        .ok_or_else(|| by_hand(&format!("there is no [[feed]] with id = \"{feed}\"")))?;
    let schema = table
        .get_mut("schema")
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| by_hand("the feed has no schema"))?;
    // An order that is no longer asked for first: what may be missing builds on that.
    let is_order = |drift: &&Drift| drift.kind == DriftKind::Reordered;
    let (orders, others): (Vec<&Drift>, Vec<&Drift>) = drifts.iter().partition(is_order);
    for drift in orders.into_iter().chain(others) {
        let column = drift.column.as_str();
        if !drift.is_exact {
            let label = drift.now.as_ref().map_or(column, |(now, _)| now);
            return Err(by_hand(&format!(
                "of the label {label} only the shape or the start is remembered"
            )));
        }
        match (drift.kind, &drift.now) {
            (DriftKind::Added, _) if asks_for_order(schema) => {
                return Err(by_hand(&format!(
                    "the contract asks for an order, in which {column} has no place yet"
                )));
            }
            (DriftKind::Added, _) => columns_of(schema)?.push_formatted(added(column)),
            (DriftKind::Renamed, Some((now, _))) => renamed(column_of(schema, column)?, now)?,
            (DriftKind::Removed, _) => removed(schema, column)?,
            (DriftKind::Reordered, _) => {
                schema.insert("fields_match", Item::Value("equal".into()));
            }
            (DriftKind::Renamed | DriftKind::Retyped, _) => {
                return Err(by_hand(&format!(
                    "what {column} is now nobody can tell from its faults"
                )));
            }
        }
    }
    tidy(columns_of(schema)?);
    let version = document.get("version").and_then(Item::as_integer);
    let version = version.ok_or_else(|| by_hand("the policy has no version"))?;
    if let Some(value) = document.get_mut("version").and_then(Item::as_value_mut) {
        let decor = value.decor().clone();
        *value = version.saturating_add(1).into();
        *value.decor_mut() = decor;
    }
    Ok(document.to_string())
}

fn asks_for_order(schema: &dyn TableLike) -> bool {
    schema.get("fields_match").and_then(Item::as_str) == Some("exact")
}

fn columns_of(schema: &mut dyn TableLike) -> Result<&mut Array, NotAdopted> {
    let columns = schema.get_mut("columns").and_then(Item::as_array_mut);
    columns.ok_or_else(|| {
        NotAdopted("its columns are no list of tables; change the policy by hand".to_owned())
    })
}

fn column_of<'s>(
    schema: &'s mut dyn TableLike,
    name: &str,
) -> Result<&'s mut InlineTable, NotAdopted> {
    let mut columns = columns_of(schema)?
        .iter_mut()
        .filter_map(Value::as_inline_table_mut);
    columns
        .find(|column| column.get("name").and_then(Value::as_str) == Some(name))
        .ok_or_else(|| NotAdopted(format!("the policy has no column {name} any more")))
}

fn added(name: &str) -> Value {
    let mut column = InlineTable::new();
    column.insert("name", name.into());
    column.insert("type", "string".into());
    column.insert("sensitive", true.into());
    Value::InlineTable(column)
}

fn renamed(column: &mut InlineTable, now: &str) -> Result<(), NotAdopted> {
    match column.get_mut("aliases") {
        Some(Value::Array(aliases)) => aliases.push(now),
        Some(_) => return Err(NotAdopted("its aliases are no list".to_owned())),
        None => {
            let aliases: Array = [now].into_iter().collect();
            // Behind the name, where a reader looks for it.
            let before: Vec<(String, Value)> = column
                .iter()
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect();
            column.clear();
            for (key, value) in before {
                let is_name = key == "name";
                column.insert(&key, value);
                if is_name {
                    column.insert("aliases", aliases.clone().into());
                }
            }
        }
    }
    column.fmt();
    Ok(())
}

fn removed(schema: &mut dyn TableLike, name: &str) -> Result<(), NotAdopted> {
    let in_key = schema
        .get("primary_key")
        .and_then(Item::as_array)
        .is_some_and(|key| key.iter().any(|part| part.as_str() == Some(name)));
    let column = column_of(schema, name)?;
    if in_key || column.contains_key("token") {
        let what = if in_key {
            "part of the primary key"
        } else {
            "tokenized"
        };
        return Err(NotAdopted(format!(
            "{name} is {what}, so a file without it is never taken; change the policy by hand"
        )));
    }
    column.remove("required");
    column.fmt();
    schema.insert("missing_columns", Item::Value("null".into()));
    let wider = match schema.get("fields_match").and_then(Item::as_str) {
        Some("exact") => Some("superset"),
        Some("subset") => Some("partial"),
        Some(_) | None => None,
    };
    if let Some(wider) = wider {
        schema.insert("fields_match", Item::Value(wider.into()));
    }
    Ok(())
}

/// A list with a column on each line stays one.
fn tidy(columns: &mut Array) {
    let first = columns.get(0).and_then(|column| column.decor().prefix());
    let Some(prefix) = first.and_then(|prefix| prefix.as_str()).map(str::to_owned) else {
        return;
    };
    if !prefix.contains('\n') {
        return;
    }
    let last = prefix.rsplit('\n').next().unwrap_or_default();
    let own_line = format!("\n{last}");
    for column in columns.iter_mut() {
        if column.decor().prefix().is_none() {
            column.decor_mut().set_prefix(own_line.clone());
        }
    }
    columns.set_trailing_comma(true);
    if columns
        .trailing()
        .as_str()
        .is_none_or(|text| !text.contains('\n'))
    {
        columns.set_trailing("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"version = 3 # agreed 2026-11-01

[partner]
id = "acme"

[[feed]]
id = "orders"
match = 'orders\.csv'

# Everything below is theirs.
[feed.schema]
fields_match = "exact"
columns = [
  { name = "id", type = "string", required = true }, # theirs
  { name = "email", type = "string", token = { kind = "mask" } },
  { name = "note", type = "string", aliases = ["text"] },
]
primary_key = ["id"]
"#;

    fn drift(kind: DriftKind, column: &str, now: Option<&str>) -> Drift {
        Drift {
            kind,
            column: column.to_owned(),
            now: now.map(|now| (now.to_owned(), 80)),
            is_exact: true,
        }
    }

    fn adopted(drifts: &[Drift]) -> Result<String, String> {
        let feed = FeedId::parse("orders").unwrap();
        adopt(POLICY, &feed, drifts).map_err(|why| why.to_string())
    }

    #[test]
    fn only_what_is_adopted_changes() {
        let text = adopted(&[
            drift(DriftKind::Added, "tier", None),
            drift(DriftKind::Renamed, "note", Some("remark")),
            drift(DriftKind::Renamed, "id", Some("order id")),
            drift(DriftKind::Reordered, "note", None),
        ])
        .unwrap();
        let expect = POLICY
            .replace("version = 3", "version = 4")
            .replace("\"exact\"", "\"equal\"")
            .replace("[\"text\"]", "[\"text\", \"remark\"]")
            .replace(
                "{ name = \"id\", ",
                "{ name = \"id\", aliases = [\"order id\"], ",
            )
            .replace(
                "\"remark\"] },\n",
                "\"remark\"] },\n  { name = \"tier\", type = \"string\", sensitive = true },\n",
            );
        assert_eq!(text, expect);
    }

    #[test]
    fn a_column_that_is_gone_may_be_missing_unless_it_is_needed() {
        let text = adopted(&[drift(DriftKind::Removed, "note", None)]).unwrap();
        assert!(text.contains("missing_columns = \"null\""), "{text}");
        assert!(text.contains("fields_match = \"superset\""), "{text}");
        for (column, why) in [
            ("id", "primary key"),
            ("email", "tokenized"),
            ("x", "no column x"),
        ] {
            let fault = adopted(&[drift(DriftKind::Removed, column, None)]).unwrap_err();
            assert!(fault.contains(why), "{fault}");
        }
    }

    #[test]
    fn a_label_that_is_not_told_whole_and_one_without_a_place_are_left_to_a_person() {
        let shape = Drift {
            is_exact: false,
            ..drift(DriftKind::Added, "aaaa_99999999", None)
        };
        let fault = adopted(&[shape]).unwrap_err();
        assert!(fault.contains("only the shape"), "{fault}");
        let fault = adopted(&[drift(DriftKind::Added, "tier", None)]).unwrap_err();
        assert!(fault.contains("asks for an order"), "{fault}");
        // Whatever comes first: what may be missing is what may be in any order.
        for turned in [false, true] {
            let mut drifts = vec![
                drift(DriftKind::Reordered, "note", None),
                drift(DriftKind::Removed, "note", None),
            ];
            if turned {
                drifts.reverse();
            }
            let text = adopted(&drifts).unwrap();
            assert!(text.contains("fields_match = \"equal\""), "{text}");
        }
    }

    #[test]
    fn what_only_a_person_can_tell_is_left_to_one() {
        let fault = adopted(&[drift(DriftKind::Retyped, "note", None)]).unwrap_err();
        assert!(fault.contains("by hand"), "{fault}");
        let other = FeedId::parse("stock").unwrap();
        let none = adopt(POLICY, &other, &[]).unwrap_err();
        assert!(none.to_string().contains("id = \"stock\""), "{none}");
        assert!(adopt("version = ", &other, &[]).is_err());
    }
}
