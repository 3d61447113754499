//! Trust bundles (`pkg/apis/certificates/validation`).
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knode_api::field::{FieldError, Path};
use knode_api::names;
use knode_pki::Certificate;
use serde_json::Value;

use super::{Errors, immutable, name_rule};
use crate::value::text;

/// Largest bundle, in bytes.
const LARGEST: usize = 1 << 20;
/// Longest part of a signer's name before and after its slash.
const LONGEST: (usize, usize) = (253, 253 + 63 + 1);
/// Stands for a bundle in errors.
const OMITTED: &str = "<value omitted>";

/// A new bundle.
pub(crate) fn trust_bundle(bundle: &Value) -> Errors {
    let mut errors = names_of(bundle);
    let text = text(bundle, "/spec/trustBundle");
    let path = Path::new("spec");
    let path = path.child("trustBundle");
    match text.len() > LARGEST {
        true => errors.push(FieldError::too_long(path, LARGEST)),
        false => errors.extend(
            anchors(text)
                .into_iter()
                .map(|why| FieldError::invalid(path, OMITTED, why)),
        ),
    }
    errors
}

/// A changed bundle: it stays its signer's. What it holds is looked at when it is other than before.
pub(crate) fn trust_bundle_update(new: &Value, old: &Value) -> Errors {
    let mut errors = match new.pointer("/spec/trustBundle") == old.pointer("/spec/trustBundle") {
        true => names_of(new),
        false => trust_bundle(new),
    };
    let signer = |bundle: &'_ Value| Value::from(text(bundle, "/spec/signerName"));
    let path = Path::new("spec");
    immutable(
        &mut errors,
        &path.child("signerName"),
        Some(&signer(new)),
        Some(&signer(old)),
    );
    errors
}

/// A bundle is named after its signer, `example.com:signer:name`, and one without signer has no colon in its name.
fn names_of(bundle: &Value) -> Errors {
    let mut errors = Errors::new();
    let name = text(bundle, "/metadata/name");
    let signer = text(bundle, "/spec/signerName");
    let path = Path::new("metadata");
    let path = path.child("name");
    if signer.is_empty() {
        match name.contains(':') {
            true => {
                let words = "ClusterTrustBundle without signer name must not have \":\" in its name";
                errors.push(FieldError::invalid(path, name, words));
            }
            false => name_rule(&mut errors, &path, name, names::dns1123_subdomain),
        }
        return errors;
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => {
            let wrong = names::dns1123_subdomain(rest).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(path, name, why)));
        }
        None => {
            let words =
                format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
            errors.push(FieldError::invalid(path, name, words));
        }
    }
    let path = Path::new("spec");
    signer_name(&mut errors, &path.child("signerName"), signer);
    errors
}

/// A signer's name: a domain of two parts at least, a slash, and a subdomain's name.
pub(crate) fn signer_name(errors: &mut Errors, path: &Path<'_>, signer: &str) {
    if signer.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let words = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, signer, words));
    };
    if domain.len() > LONGEST.0 {
        errors.push(FieldError::too_long(path, LONGEST.0));
    }
    for part in domain.split('.').chain(name.split('.')) {
        let wrong = names::dns1123_label(part);
        if !wrong.is_empty() {
            let wrong = wrong
                .into_iter()
                .map(|why| format!("validating label {part:?}: {why}"));
            errors.extend(wrong.map(|why| FieldError::invalid(path, signer, why)));
            break;
        }
    }
    if !domain.contains('.') {
        let words = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, words));
    }
    if signer.len() > LONGEST.0 + LONGEST.1 + 1 {
        errors.push(FieldError::too_long(path, LONGEST.0 + LONGEST.1 + 1));
    }
}

/// What is wrong with a bundle's text: authorities' certificates alone, each once, at least one.
fn anchors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let mut seen: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (i, block) in Blocks(text).enumerate() {
        match anchor(&block) {
            Ok(()) => seen.entry(block.bytes).or_default().push(i),
            Err(why) => errors.push(format!("entry {i} {why}")),
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if seen.is_empty() {
        return vec!["at least one trust anchor must be provided".to_owned()];
    }
    let twice = seen.into_values().filter(|places| places.len() > 1);
    let words = |places: Vec<usize>| {
        let places: Vec<String> = places.iter().map(usize::to_string).collect();
        format!("duplicate trust anchor (indices [{}])", places.join(" "))
    };
    twice.map(words).collect()
}

fn anchor(block: &Block<'_>) -> Result<(), String> {
    if block.label != "CERTIFICATE" {
        return Err(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Err("has PEM block headers".to_owned());
    }
    match Certificate::from_der(&block.bytes) {
        Err(_) => Err("does not parse as X.509".to_owned()),
        Ok(found) if !found.is_ca => Err("does not have the CA bit set".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// One block of PEM.
struct Block<'a> {
    label: &'a str,
    has_headers: bool,
    bytes: Vec<u8>,
}

/// The blocks in a text. What is no block is passed over, as Go's `pem.Decode` does.
struct Blocks<'a>(&'a str);

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        loop {
            let (_, after) = self.0.split_once("-----BEGIN ")?;
            self.0 = after;
            if let Some((block, rest)) = block(after) {
                self.0 = rest;
                return Some(block);
            }
        }
    }
}

/// The block whose label begins the text, and what follows it.
fn block(text: &str) -> Option<(Block<'_>, &str)> {
    let (label, body) = text.split_once("-----")?;
    if label.contains('\n') {
        return None;
    }
    let (body, rest) = body.split_once(&format!("-----END {label}-----"))?;
    let headers = body.lines().filter(|line| line.contains(':')).count();
    let data = body.lines().filter(|line| !line.contains(':'));
    let data: String = data.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let block = Block {
        label,
        has_headers: headers > 0,
        bytes: STANDARD.decode(data).ok()?,
    };
    Some((block, rest))
}

#[cfg(test)]
mod tests;
