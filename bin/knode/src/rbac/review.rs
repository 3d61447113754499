use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use knode_client::Client;
use kube::Api;
use kube::api::PostParams;

use super::manifest;

/// Asks whether the node's own identity may read what its proxy, overlay and policies need. Where it may not, the
/// manifest is applied with the credential that the node joins by, if that may; else it is printed with the reason.
pub async fn grant(client: &Client, bootstrap: &Path, policies: bool) {
    let lacking = match lacking(client, policies).await {
        Ok(lacking) => lacking,
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "it is not known whether the node may do its work"
            );
            return;
        }
    };
    if lacking.is_empty() {
        return;
    }
    match by(bootstrap, policies).await {
        Ok(()) => tracing::info!(
            "role {} made: the node may work with its own identity",
            manifest::NAME
        ),
        Err(error) => tell(&lacking, &error, policies),
    }
}

fn tell(lacking: &[String], error: &anyhow::Error, policies: bool) {
    tracing::warn!(
        reason = format!("{error:#}"),
        "this node may not list {}: an administrator must apply what `knode rbac` prints, or name another identity by \
         --proxy-kubeconfig; services and policies are not served until then",
        lacking.join(", ")
    );
    match manifest::text(policies) {
        Ok(text) => print!("{text}"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "the manifest can't be printed"),
    }
}

async fn by(bootstrap: &Path, policies: bool) -> anyhow::Result<()> {
    let connected = knode_client::from_kubeconfig(bootstrap);
    let client = connected
        .with_context(|| format!("use {}", bootstrap.display()))?
        .client;
    super::apply(&client, policies).await.map_err(brief)
}

/// The server's own words for a refusal are enough.
fn brief(error: crate::server::objects::EnsureError) -> anyhow::Error {
    anyhow::anyhow!(knode_client::brief(&error))
}

/// The resources of which the client's identity may not have a list.
async fn lacking(client: &Client, policies: bool) -> anyhow::Result<Vec<String>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut lacking = Vec::new();
    for (group, resource) in manifest::listed(policies) {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some("list".into()),
                group: Some(group.into()),
                resource: Some(resource.into()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview {
            spec,
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.with_context(|| format!("ask whether the node may list {resource}"))?;
        if !answer.status.is_some_and(|status| status.allowed) {
            lacking.push(if group.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}.{group}")
            });
        }
    }
    Ok(lacking)
}
