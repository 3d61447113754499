use serde_json::{Value, json};

use super::*;

struct Sample {
    path: String,
    json: Value,
    bytes: Vec<u8>,
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    text.as_bytes()
        .chunks(2)
        .map(|p| digit(p[0]) << 4 | digit(p[1]))
        .collect()
}

fn samples() -> Vec<Sample> {
    let lines = include_str!("../../tests/data/protobuf-samples.jsonl").lines();
    lines
        .map(|l| {
            let v: Value = serde_json::from_str(l).unwrap();
            Sample {
                path: v["path"].as_str().unwrap().into(),
                json: v["json"].clone(),
                bytes: unhex(v["protobuf_hex"].as_str().unwrap()),
            }
        })
        .collect()
}

/// Raw JSON within protobuf may be spaced as it pleases; everything else must be the same to the byte.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_sample_decodes_to_its_json() {
    let mut seen = 0;
    for s in samples().iter().filter(|s| s.bytes.starts_with(&MAGIC)) {
        let got = decode(&s.bytes, None).unwrap_or_else(|e| panic!("{}: {e}", s.path));
        assert_eq!(got, s.json, "{}", s.path);
        seen += 1;
    }
    assert!(seen > 15, "only {seen} samples");
}

#[test]
fn every_sample_encodes_to_its_bytes() {
    for s in samples().iter().filter(|s| s.bytes.starts_with(&MAGIC)) {
        let got = encode(&s.json).unwrap_or_else(|e| panic!("{}: {e}", s.path));
        assert_eq!(decode(&got, None).unwrap(), s.json, "{}", s.path);
        assert_eq!(hex(&got), hex(&s.bytes), "{}", s.path);
    }
}

#[test]
fn watch_frames() {
    let all = samples();
    let sample = all.iter().find(|s| s.path.contains("watch=1")).unwrap();
    let mut events = sample.json.as_array().unwrap().clone();
    // The two recordings of this stream are two requests; the bookmark came at another version.
    events[1]["object"]["metadata"]["resourceVersion"] = "3164".into();
    let mut got = Vec::new();
    for e in &events {
        got.extend(encode_watch_event(e["type"].as_str().unwrap(), &e["object"]).unwrap());
    }
    assert_eq!(hex(&got), hex(&sample.bytes));
}

#[test]
fn the_envelope_may_leave_the_kind_out() {
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"containers": null}, "status": {}});
    let bytes = encode(&pod).unwrap();
    assert_eq!(type_meta(&bytes).unwrap().kind, "Pod");
    let default = TypeMeta {
        api_version: "v1".into(),
        kind: "Pod".into(),
    };
    let mut bare = MAGIC.to_vec();
    bare.extend([0x12, 0]);
    let got = decode(&bare, Some(&default)).unwrap();
    assert_eq!(got["kind"], "Pod");
    assert!(matches!(decode(&bare, None), Err(ProtoError::UnknownKind { .. })));
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(decode(b"{}", None), Err(ProtoError::Magic));
    let mut cut = MAGIC.to_vec();
    cut.extend([0x0a, 0x20, 0x01]);
    assert_eq!(decode(&cut, None), Err(ProtoError::Truncated));
}

#[test]
fn types_round_trip() {
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
        "preconditions": {"uid": "x"}, "propagationPolicy": "Foreground"});
    assert_eq!(decode(&encode(&options).unwrap(), None).unwrap(), options);
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"a": "Yg==", "e": ""}, "type": "Opaque"});
    assert_eq!(decode(&encode(&secret).unwrap(), None).unwrap(), secret);
    let probe = json!({"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1});
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "status": {},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m"}}, "livenessProbe": probe}],
                 "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}], "terminationGracePeriodSeconds": 0}});
    assert_eq!(decode(&encode(&pod).unwrap(), None).unwrap(), pod);
}
