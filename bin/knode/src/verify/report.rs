//! The table that `verify` prints.

use std::path::Path;

/// One row: what was asked and how it went.
#[derive(Clone, Debug)]
pub struct Row {
    pub node: String,
    pub check: String,
    pub detail: String,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// The kubectl arguments that show more about it.
    pub look: String,
}

/// All rows with aligned columns.
pub fn table(rows: &[Row]) -> String {
    let header = ["NODE", "CHECK", "RESULT", "DETAIL"].map(str::to_owned);
    let cells = rows.iter().map(|r| {
        let result = if r.failure.is_none() { "ok" } else { "FAILED" };
        let detail = r.failure.clone().unwrap_or_else(|| r.detail.clone());
        [r.node.clone(), r.check.clone(), result.to_owned(), detail]
    });
    let all: Vec<_> = std::iter::once(header).chain(cells).collect();
    let width = |i: usize| all.iter().map(|c| c[i].len()).max().unwrap_or(0);
    let (node, check, result) = (width(0), width(1), width(2));
    all.iter()
        .map(|[a, b, c, d]| format!("{a:node$}   {b:check$}   {c:result$}   {d}\n"))
        .collect()
}

/// What failed first, and the command to look at it.
pub fn first_failure(row: &Row, kubeconfig: &Path) -> String {
    format!(
        "verify failed: {} on node {}: {}\nlook at it with: kubectl --kubeconfig {} {}",
        row.check,
        row.node,
        row.failure.as_deref().unwrap_or("unknown"),
        kubeconfig.display(),
        row.look
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_failure_names_a_command() {
        let row = |failure: Option<&str>| Row {
            node: "n1".into(),
            check: "page by ClusterIP".into(),
            detail: "200".into(),
            failure: failure.map(str::to_owned),
            look: "describe svc nginx-ds".into(),
        };
        let text = table(&[row(None), row(Some("refused"))]);
        assert_eq!(
            text.lines().nth(1),
            Some("n1     page by ClusterIP   ok       200")
        );
        let said = first_failure(&row(Some("refused")), Path::new("/k"));
        assert!(
            said.contains("page by ClusterIP") && said.contains("kubectl --kubeconfig /k describe svc"),
            "{said}"
        );
    }
}
