//! Detached signatures by bootstrap tokens (RFC 7515, appendix F): how the ConfigMap `cluster-info` is signed
//! (upstream: `cluster-bootstrap/token/jws`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;

use crate::BootstrapToken;

impl BootstrapToken {
    /// The detached signature of `content`: HMAC-SHA256 with the token's secret, the token's identifier as key id.
    pub fn sign(&self, content: &[u8]) -> String {
        let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, self.id());
        let header = URL_SAFE_NO_PAD.encode(header);
        let tag = hmac::sign(&self.key(), &signed(&header, content));
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether `signature` is this token's over `content`.
    pub fn has_signed(&self, content: &[u8], signature: &str) -> bool {
        let Some((header, tag)) = signature.split_once("..") else {
            return false;
        };
        let (Ok(decoded), Ok(tag)) = (URL_SAFE_NO_PAD.decode(header), URL_SAFE_NO_PAD.decode(tag)) else {
            return false;
        };
        let fits = serde_json::from_slice(&decoded)
            .is_ok_and(|header: Value| header["alg"] == "HS256" && header["kid"] == self.id());
        fits && hmac::verify(&self.key(), &signed(header, content), &tag).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret().as_bytes())
    }
}

fn signed(header: &str, content: &[u8]) -> Vec<u8> {
    format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> BootstrapToken {
        text.parse().unwrap()
    }

    #[test]
    fn a_signature_is_upstreams() {
        // Made by another implementation of RFC 7515 from the same key, header and payload.
        assert_eq!(
            token("joshua.abcdefghijklmnop")
                .sign(b"Hello from the other side. I must have called a thousand times."),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..L-JL62uv--opEUWC7EPa-nLIypdKpPaGHIeiHrk9eyk"
        );
    }

    #[test]
    fn only_the_right_token_and_content_fit() {
        let (one, content) = (token("abcdef.0123456789abcdef"), b"apiVersion: v1\n".as_slice());
        let signature = one.sign(content);
        assert!(one.has_signed(content, &signature));
        assert!(!one.has_signed(b"apiVersion: v2\n", &signature));
        assert!(!token("abcdef.0123456789abcdeg").has_signed(content, &signature));
        assert!(!token("bbcdef.0123456789abcdef").has_signed(content, &signature));
        for broken in ["", "..", "a..b", signature.trim_end_matches(|_| true)] {
            assert!(!one.has_signed(content, broken), "{broken:?}");
        }
    }
}
