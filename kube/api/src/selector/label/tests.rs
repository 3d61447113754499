use serde_json::json;

use super::*;

fn matches(selector: &str, labels: Value) -> bool {
    LabelSelector::parse(selector)
        .unwrap()
        .matches(labels.as_object())
}

#[test]
fn matches_labels() {
    assert!(matches("", json!({})));
    assert!(matches("a=b,c!=d", json!({"a": "b"})));
    assert!(!matches("a==b", json!({"a": "c"})));
    assert!(matches("a in (x,y),z notin (q)", json!({"a": "y"})));
    assert!(!matches("!a", json!({"a": ""})));
    assert!(matches("a,!b", json!({"a": ""})));
    assert!(matches("n>3,n<5", json!({"n": "4"})));
    assert!(matches("a in (,x)", json!({"a": ""})));
    assert!(!LabelSelector::nothing().matches(None));
}

#[test]
fn words_of_errors() {
    let text = |s: &str| LabelSelector::parse(s).unwrap_err().to_string();
    assert_eq!(
        text("a===b"),
        "unable to parse requirement: found '=', expected: identifier"
    );
    assert_eq!(
        text("a in "),
        "unable to parse requirement: found '' expected: '('"
    );
    assert_eq!(text("a,"), "found '', expected: identifier after ','");
    assert_eq!(
        text(",a"),
        "found ',', expected: !, identifier, or 'end of string'"
    );
}

#[test]
fn prints_sorted() {
    let s = LabelSelector::parse("z notin (b,a),a == c,!q").unwrap();
    assert_eq!(s.to_string(), "a=c,!q,z notin (a,b)");
}

#[test]
fn objects() {
    let read = |v: Value| LabelSelector::from_object(Some(&v));
    let s = read(json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]})).unwrap();
    assert_eq!(s.to_string(), "a=b,c in (d,e)");
    assert!(read(json!({})).unwrap().is_everything());
    assert!(!LabelSelector::from_object(None).unwrap().matches(None));
    assert_eq!(
        read(json!({"matchExpressions": [{"key": "c", "operator": "X"}]}))
            .unwrap_err()
            .to_string(),
        "\"X\" is not a valid label selector operator"
    );
}
