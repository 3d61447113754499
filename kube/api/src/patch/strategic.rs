//! Strategic merge patches (`k8s.io/apimachinery/pkg/util/strategicpatch`), merge keys from the schema.
use serde_json::{Map, Value};

use super::PatchError;
use crate::goname::plain;
use crate::schema::{Field, Merge, Schema, Shape, TypeId, schema};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

type Object = Map<String, Value>;
type Outcome<T> = Result<T, PatchError>;

/// Merges a strategic merge patch into an object of type `ty`.
///
/// # Errors
/// [`PatchError::Invalid`] for directives that make no sense and lists without their keys.
pub fn strategic_merge_patch(object: Value, patch: Value, ty: TypeId) -> Outcome<Value> {
    let Value::Object(patch) = patch else {
        return Err(invalid("invalid JSON document"));
    };
    let object = match object {
        Value::Object(object) => object,
        _ => Object::new(),
    };
    merge_map(object, patch, Some(ty)).map(Value::Object)
}

fn invalid(words: impl Into<String>) -> PatchError {
    PatchError::Invalid(words.into())
}

/// What is known of a field at this place; nothing outside of the schema.
struct Meta {
    merge: Merge,
    /// The type of the field's value or elements.
    ty: Option<TypeId>,
}

fn meta(ty: Option<TypeId>, name: &str) -> Meta {
    let schema: &Schema = schema();
    let field: Option<&Field> = ty.and_then(|ty| schema.field(ty, name));
    let inner = field.and_then(|f| match f.shape {
        Shape::Message(ty) => Some(ty),
        Shape::Scalar(_) => None,
    });
    Meta {
        merge: field.map(|f| schema.merge(f)).unwrap_or_default(),
        ty: inner,
    }
}

fn merge_map(mut original: Object, mut patch: Object, ty: Option<TypeId>) -> Outcome<Object> {
    if let Some(directive) = patch.remove(PATCH) {
        return directed_map(original, patch, &directive);
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(&mut original, &mut patch, ty)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_PREFIX) {
            Some(list) => (list.to_string(), true),
            None => (key, false),
        };
        merge_field(&mut original, key, value, deletes, ty)?;
    }
    Ok(original)
}

/// `$patch` in a map: `replace` takes the patch as it is, `delete` empties, `merge` is the usual.
fn directed_map(original: Object, patch: Object, directive: &Value) -> Outcome<Object> {
    match directive.as_str() {
        Some("replace") => Ok(patch),
        Some("delete") => Ok(Object::new()),
        _ => {
            let mut shown = patch;
            shown.insert(PATCH.into(), directive.clone());
            drop(original);
            let text = plain(&Value::Object(shown));
            Err(invalid(format!(
                "unknown patch type: {} in map: {text}",
                plain(directive)
            )))
        }
    }
}

fn merge_field(
    original: &mut Object,
    key: String,
    value: Value,
    deletes: bool,
    ty: Option<TypeId>,
) -> Outcome<()> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let Meta { merge, ty } = meta(ty, &key);
    let current = original.remove(&key);
    let merged = match (current, value) {
        (Some(Value::Object(current)), Value::Object(patch)) => {
            Some(Value::Object(merge_map(current, patch, ty)?))
        }
        (Some(Value::Array(current)), Value::Array(patch)) => {
            let merged = if merge.merge || deletes {
                merge_list(current, patch, merge.key, ty, deletes)?
            } else {
                patch
            };
            Some(Value::Array(merged))
        }
        (current, _) if deletes => current,
        (_, value) => clean(value),
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

/// A patch's value that has nothing to merge with: without nulls and directives; `None` if it is one itself.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            match map.get(PATCH).and_then(Value::as_str) {
                Some("delete") => return None,
                Some(_) if map.len() == 1 => return Some(Value::Object(Object::new())),
                _ => {}
            }
            let is_directive = |k: &str| {
                k == PATCH || k == RETAIN_KEYS || k.starts_with(DELETE_PREFIX) || k.starts_with(ORDER_PREFIX)
            };
            let kept = map.into_iter().filter(|(k, v)| !v.is_null() && !is_directive(k));
            Some(Value::Object(
                kept.filter_map(|(k, v)| Some((k, clean(v)?))).collect(),
            ))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(clean).collect())),
        other => Some(other),
    }
}

/// `$retainKeys`: only the listed keys stay; the patch may set no other.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Outcome<()> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = keys else {
        return Err(invalid("invalid patch format of retainKeys"));
    };
    let listed = |k: &str| keys.iter().any(|key| key == k);
    let stray = |k: &str, v: &Value| {
        !v.is_null() && !k.starts_with(DELETE_PREFIX) && !k.starts_with(ORDER_PREFIX) && !listed(k)
    };
    if patch.iter().any(|(k, v)| stray(k, v)) {
        return Err(invalid("invalid patch format of retainKeys"));
    }
    original.retain(|k, _| listed(k));
    Ok(())
}

/// `$setElementOrder/x`: merges list `x` and puts it in that order.
fn ordered_lists(original: &mut Object, patch: &mut Object, ty: Option<TypeId>) -> Outcome<()> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(ORDER_PREFIX))
        .cloned()
        .collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(invalid("invalid patch format of setElementOrder list"));
        };
        let name = &directive[ORDER_PREFIX.len()..];
        let Meta { merge, ty } = meta(ty, name);
        let live = list_of(original.get(name))?;
        let changes = list_of(patch.get(name))?;
        check_order(changes.as_deref().unwrap_or_default(), &order, merge.key)?;
        let before = live.clone().unwrap_or_default();
        let merged = match (live, changes) {
            (Some(live), None) => live,
            (None, Some(changes)) => changes.into_iter().filter_map(clean).collect(),
            (Some(live), Some(changes)) => merge_list(live, changes, merge.key, ty, false)?,
            (None, None) => continue,
        };
        patch.remove(name);
        original.insert(
            name.into(),
            Value::Array(arrange(merged, &order, &before, merge.key)),
        );
    }
    Ok(())
}

fn list_of(value: Option<&Value>) -> Outcome<Option<Vec<Value>>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list.clone())),
        Some(other) => {
            let kind = if other.is_object() { "map" } else { "string" };
            Err(invalid(format!("expected a slice, but received a {kind}")))
        }
    }
}

/// The patch's elements must come in the order that the directive gives.
fn check_order(changes: &[Value], order: &[Value], key: Option<&str>) -> Outcome<()> {
    if changes.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for change in changes.iter().filter(|c| c.get(PATCH).is_none()) {
        if !rest.any(|o| same(o, change, key)) {
            let (list, order) = (plain(&changes.to_vec().into()), plain(&order.to_vec().into()));
            let words =
                format!("The order in patch list:\n{list}\n doesn't match $setElementOrder list:\n{order}\n");
            return Err(invalid(words));
        }
    }
    Ok(())
}

/// Whether two elements are the same one: by key, or as scalars.
fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) if a.is_object() && b.is_object() => a.get(key) == b.get(key),
        _ => a == b,
    }
}

fn place(list: &[Value], element: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|e| same(e, element, key))
}

/// Elements named by `order` in that order, and between them, where they stood in `before`, the others.
fn arrange(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|e| place(order, e, key).is_some());
    named.sort_by_key(|e| place(order, e, key));
    others.sort_by_key(|e| place(before, e, key).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for element in named {
        while let Some(other) = others.peek() {
            let earlier = match (place(before, other, key), place(before, &element, key)) {
                (Some(o), Some(e)) => o < e,
                _ => false,
            };
            if !earlier {
                break;
            }
            out.extend(others.next());
        }
        out.push(element);
    }
    out.extend(others);
    out
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: Option<&'static str>,
    ty: Option<TypeId>,
    deletes: bool,
) -> Outcome<Vec<Value>> {
    let Some(first) = original.first().or(patch.first()) else {
        return Ok(original);
    };
    if !first.is_object() {
        return Ok(merge_scalars(original, patch, deletes));
    }
    let Some(key) = key else {
        let name = ty.map_or("", |ty| schema().name(ty));
        return Err(invalid(format!(
            "cannot merge lists without merge key for {name}"
        )));
    };
    merge_keyed(original, patch, key, ty)
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>, deletes: bool) -> Vec<Value> {
    if deletes {
        return original.into_iter().filter(|v| !patch.contains(v)).collect();
    }
    let mut merged: Vec<Value> = Vec::new();
    for value in original.iter().chain(&patch) {
        if !merged.contains(value) {
            merged.push(value.clone());
        }
    }
    arrange(merged, &patch, &original, None)
}

fn merge_keyed(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: &'static str,
    ty: Option<TypeId>,
) -> Outcome<Vec<Value>> {
    let before = original.clone();
    let (mut merged, changes) = special_elements(original, patch, key)?;
    let order = changes.clone();
    for change in changes {
        let Value::Object(change) = change else {
            return Err(invalid("expected a map, but received a string"));
        };
        let Some(id) = change.get(key).cloned() else {
            let text = plain(&Value::Object(change));
            return Err(invalid(format!(
                "map: {text} does not contain declared merge key: {key}"
            )));
        };
        match merged.iter().position(|e| e.get(key) == Some(&id)) {
            Some(at) => {
                let current = match merged[at].take() {
                    Value::Object(current) => current,
                    _ => Object::new(),
                };
                merged[at] = Value::Object(merge_map(current, change, ty)?);
            }
            None => merged.extend(clean(Value::Object(change))),
        }
    }
    Ok(arrange(merged, &order, &before, Some(key)))
}

/// Carries out `$patch` elements; what is left of the list, and of the patch.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let mut changes = Vec::with_capacity(patch.len());
    let mut replace = false;
    for element in patch {
        match element.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
            None => changes.push(element),
            Some("delete") => match element.get(key) {
                Some(id) => original.retain(|e| e.get(key) != Some(id)),
                None => {
                    let text = plain(&element);
                    return Err(invalid(format!(
                        "map: {text} does not contain declared merge key: {key}"
                    )));
                }
            },
            Some("replace") => replace = true,
            Some("merge") => return Err(invalid("merging lists cannot yet be specified in the patch")),
            Some(other) => {
                return Err(invalid(format!(
                    "unknown patch type: {other} in map: {}",
                    plain(&element)
                )));
            }
        }
    }
    Ok(if replace {
        (changes, Vec::new())
    } else {
        (original, changes)
    })
}
