//! Token files: `token,user,uid,"group1,group2"`.

use std::path::Path;

use anyhow::Context;

/// Who bootstraps kubelets, as the seed has it.
pub const BOOTSTRAP_USER: &str = "kubelet-bootstrap";
pub const BOOTSTRAP_UID: &str = "10001";
pub const BOOTSTRAP_GROUP: &str = "system:kubelet-bootstrap";

/// A new token: 16 random bytes, hexadecimal.
pub fn generate() -> String {
    rand::random::<[u8; 16]>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A line of the file.
pub fn line(token: &str, user: &str, uid: &str, groups: &[String]) -> String {
    format!("{token},{user},{uid},\"{}\"\n", groups.join(","))
}

/// The token of a user in a file.
pub fn of_user(path: &Path, user: &str) -> anyhow::Result<String> {
    let text = knode_pki::files::read_private(path)?;
    let known = knode_apiserver::parse_token_file(&text)
        .map_err(|line| anyhow::anyhow!("{} line {line} is not token,user,uid", path.display()))?;
    let found = known.into_iter().find(|(_, known)| known.name == user);
    Ok(found
        .with_context(|| {
            format!(
                "{} has no user {user}; `knode pki token-csv --append --user {user} --out {}` adds one",
                path.display(),
                path.display()
            )
        })?
        .0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_reads_what_is_written() {
        let token = generate();
        assert_eq!(token.len(), 32);
        let text = line(&token, BOOTSTRAP_USER, BOOTSTRAP_UID, &["a".into(), "b".into()]);
        let known = knode_apiserver::parse_token_file(&text).unwrap();
        let user = &known[&token];
        assert_eq!(
            (user.name.as_str(), user.uid.as_str()),
            (BOOTSTRAP_USER, BOOTSTRAP_UID)
        );
        assert_eq!(user.groups[..2], ["a", "b"]);
    }
}
