//! Creating, waiting, asking, cleaning up.

use std::time::Duration;

use anyhow::{Context, anyhow};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};

use super::checks::{Placed, Question, in_lease, placed, questions};
use super::report::Row;
use super::{fetch, objects, web_image};
use crate::cli::VerifyArgs;
use crate::progress::Progress;

/// How often the API server is asked while waiting.
const PACE: Duration = Duration::from_millis(200);

/// One run of the check.
pub struct Setup {
    client: Client,
    namespace: String,
    image: String,
    progress: Progress,
}

impl Setup {
    /// Nothing is created yet.
    pub fn new(client: Client, args: &VerifyArgs, progress: Progress) -> Self {
        let image = args
            .image
            .clone()
            .unwrap_or_else(|| web_image::REFERENCE.to_owned());
        Self {
            client,
            namespace: format!("knode-verify-{}", std::process::id()),
            image,
            progress,
        }
    }

    /// The namespace of this run.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Namespace, service and DaemonSet.
    pub async fn create(&self) -> anyhow::Result<()> {
        let params = PostParams::default();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .create(&params, &objects::namespace(&self.namespace))
            .await
            .context("create the namespace")?;
        self.api::<Service>()
            .create(&params, &objects::service())
            .await
            .context("create the service")?;
        self.api::<DaemonSet>()
            .create(&params, &objects::daemon_set(&self.image))
            .await
            .context("create the DaemonSet")?;
        self.progress.done(format!(
            "Service and DaemonSet {} created in namespace {}",
            objects::NAME,
            self.namespace
        ));
        Ok(())
    }

    /// Waits until a pod is ready on every node, then asks every question once it can be answered.
    pub async fn ask_everywhere(&self, bound: Duration) -> anyhow::Result<Vec<Row>> {
        let placed = match self.wait_for_pods(bound).await? {
            Ok(placed) => placed,
            Err(seen) => return Ok(vec![self.not_running(&seen)]),
        };
        self.progress
            .done(format!("a pod is ready on each of {} nodes", placed.len()));
        let service = self
            .api::<Service>()
            .get(objects::NAME)
            .await
            .context("get the service")?;
        let mut rows: Vec<Row> = placed.iter().map(|p| self.lease_row(p)).collect();
        for q in questions(&placed, &service).map_err(|e| anyhow!(e))? {
            rows.push(self.ask(&q).await);
        }
        Ok(rows)
    }

    /// The pods and their nodes; or, past the bound, what was missing last.
    async fn wait_for_pods(&self, bound: Duration) -> anyhow::Result<Result<Vec<Placed>, String>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let pods = self.api::<Pod>();
        let deadline = tokio::time::Instant::now() + bound;
        loop {
            let all = ListParams::default();
            let (nodes, pods) =
                tokio::try_join!(nodes.list(&all), pods.list(&all)).context("list nodes and pods")?;
            let seen = match placed(&nodes.items, &pods.items) {
                Ok(placed) => return Ok(Ok(placed)),
                Err(seen) => seen,
            };
            self.progress.waiting(&seen);
            if tokio::time::Instant::now() >= deadline {
                return Ok(Err(format!("not within {bound:?}: {seen}")));
            }
            tokio::time::sleep(PACE).await;
        }
    }

    fn look(&self, what: &str) -> String {
        format!("--namespace {} {what}", self.namespace)
    }

    fn not_running(&self, seen: &str) -> Row {
        Row {
            node: "*".into(),
            check: "pod Running on every node".into(),
            detail: String::new(),
            failure: Some(seen.to_owned()),
            look: "get events --all-namespaces --sort-by .lastTimestamp".into(),
        }
    }

    fn lease_row(&self, p: &Placed) -> Row {
        let lease = p.lease.map(|l| l.to_string()).unwrap_or_default();
        Row {
            node: p.node.clone(),
            check: "pod Running, address in the node's lease".into(),
            detail: format!("{} in {lease}", p.pod_ip),
            failure: in_lease(p),
            look: format!("get node {} --output yaml", p.node),
        }
    }

    async fn ask(&self, q: &Question) -> Row {
        let answer = match &q.from {
            None => fetch::from_here(&q.url).await,
            Some(pod) => fetch::from_inside(&self.api(), pod, objects::CLIENT, &q.url).await,
        };
        let answer = answer.and_then(|page| self.right_page(&page));
        let from = q
            .from
            .as_ref()
            .map_or("this machine".to_owned(), |p| format!("pod {p}"));
        Row {
            node: q.node.clone(),
            check: format!("page by {} from {from}", q.by),
            detail: q.url.clone(),
            failure: answer
                .err()
                .map(|e| format!("{}: {}", q.url, knode_client::brief(e.as_ref()))),
            look: self.look("describe service,endpointslices,pods"),
        }
    }

    fn right_page(&self, page: &str) -> anyhow::Result<()> {
        let wanted = if self.image == web_image::REFERENCE {
            web_image::GREETING
        } else {
            "<"
        };
        anyhow::ensure!(
            page.contains(wanted),
            "not the page: {:?}",
            page.chars().take(60).collect::<String>()
        );
        Ok(())
    }

    /// Removes the namespace and waits until it is gone, so that the next run finds nothing left.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let deleted = namespaces.delete(&self.namespace, &DeleteParams::default()).await;
        if let Err(kube::Error::Api(status)) = &deleted
            && status.code == 404
        {
            return Ok(());
        }
        deleted.context("delete the namespace")?;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while namespaces
            .get_opt(&self.namespace)
            .await
            .context("get the namespace")?
            .is_some()
        {
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "the namespace is still there after a minute"
            );
            self.progress
                .waiting(format!("namespace {} to go", self.namespace));
            tokio::time::sleep(PACE).await;
        }
        self.progress.done("cleaned up");
        Ok(())
    }
}
