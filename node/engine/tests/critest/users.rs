//! Users and groups of containers.

use knode_cri::*;

use crate::case::Case;
use crate::support::secured;

async fn runs_as(case: &Case<'_>, change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> String {
    let pod = case.pod().await;
    let config = secured(case.staying().await, change);
    case.run_config(&pod, config).await
}

fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

pub async fn supplemental_groups(case: &Case<'_>) {
    let id = runs_as(case, |context| context.supplemental_groups = vec![1234, 5678]).await;
    let groups = case.prints_inside(&id, &["id", "-G"]).await;
    for group in ["1234", "5678"] {
        assert!(groups.split_whitespace().any(|word| word == group), "{groups}");
    }
}

pub async fn user(case: &Case<'_>) {
    let id = runs_as(case, |context| context.run_as_user = number(1001)).await;
    assert_eq!(case.prints_inside(&id, &["id", "-u"]).await, "1001\n");
}

pub async fn user_by_name(case: &Case<'_>) {
    let id = runs_as(case, |context| context.run_as_username = "nobody".into()).await;
    assert_eq!(case.prints_inside(&id, &["id", "-nu"]).await, "nobody\n");
}

pub async fn user_and_group(case: &Case<'_>) {
    let pod = case.pod().await;
    let config = case.container(&["sh", "-c", "echo $(id -u):$(id -g)"]).await;
    let config = secured(config, |context| {
        context.run_as_user = number(1001);
        context.run_as_group = number(1002);
    });
    assert_eq!(case.prints(&pod, config).await, "1001:1002");
}

pub async fn a_group_needs_a_user(case: &Case<'_>) {
    let pod = case.pod().await;
    let config = secured(case.staying().await, |context| {
        context.run_as_group = number(1002)
    });
    case.create(&pod, config).await.unwrap_err();
}

/// The image puts user 1000 into group 50000; the policy says whether that counts.
pub async fn groups_of_the_image(case: &Case<'_>, policy: SupplementalGroupsPolicy, wanted: &[i64]) {
    let features = case
        .cri()
        .status(StatusRequest::default())
        .await
        .unwrap()
        .features;
    assert!(features.unwrap().supplemental_groups_policy);
    let image = case.machine.name("test-image-predefined-group");
    case.pull(&image).await;
    let pod = case.pod().await;
    let config = case.container_of(&image, &["sh", "-c", "id -G; sleep 1000"]);
    let config = secured(config, |context| {
        context.run_as_user = number(1000);
        context.supplemental_groups = vec![1234];
        context.set_supplemental_groups_policy(policy);
    });
    let id = case.run_config(&pod, config).await;
    let mut user = case.status(&id).await.user.unwrap().linux.unwrap();
    user.supplemental_groups.sort_unstable();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups.as_slice()),
        (1000, 1000, wanted)
    );
    let text: Vec<String> = wanted.iter().map(i64::to_string).collect();
    case.wait_log(&id, &format!("stdout F {}\n", text.join(" ")))
        .await;
    assert_eq!(
        case.prints_inside(&id, &["id", "-G"]).await,
        text.join(" ") + "\n"
    );
}
