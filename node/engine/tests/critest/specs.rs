//! The table of upstream's specs.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use knode_cri::security_profile::ProfileType;
use knode_cri::{MountPropagation, NamespaceMode, SupplementalGroupsPolicy};

use crate::case::Case;
use crate::containers::When;
use crate::privileges::Hostname;
use crate::{
    containers, idempotence, images, metrics, mounts, namespaces, networking, pods, privileges, streaming,
    users, volumes,
};

/// What a spec asserts.
type Check = for<'a> fn(&'a Case<'a>) -> LocalBoxFuture<'a, ()>;

/// What to do with a spec.
pub enum Then {
    Check(Check),
    /// Alone, before the others.
    Serial(Check),
    /// With a pod network only.
    Network(Check),
    /// Upstream's suite skips it here too.
    Skip(&'static str),
}

/// A spec of upstream's suite.
pub struct Spec {
    pub group: &'static str,
    pub name: &'static str,
    pub then: Then,
}

/// The specs of a group: `kind "name" => call`.
macro_rules! specs {
    ($($group:literal { $($kind:ident $name:literal => $then:expr;)* })*) => {
        /// All 137, by upstream's groups.
        pub const SPECS: &[Spec] = &[$($(Spec { group: $group, name: $name, then: specs!(@ $kind $then) },)*)*];
    };
    (@ check $call:expr) => { Then::Check({ const CALL: Check = $call; CALL }) };
    (@ serial $call:expr) => { Then::Serial({ const CALL: Check = $call; CALL }) };
    (@ network $call:expr) => { Then::Network({ const CALL: Check = $call; CALL }) };
    (@ skip $reason:expr) => { Then::Skip($reason) };
}

const NO_APPARMOR: &str = "the kernel has no AppArmor";
const NO_NRI: &str = "no node resource interface is offered";

specs! {
    "AppArmor, deprecated field" {
        skip "a profile that is not loaded is refused" => NO_APPARMOR;
        skip "a profile keeps from writing" => NO_APPARMOR;
        skip "a permissive profile lets write" => NO_APPARMOR;
    }
    "AppArmor, field" {
        skip "a profile that is not loaded is refused" => NO_APPARMOR;
        skip "a profile keeps from writing" => NO_APPARMOR;
        skip "a permissive profile lets write" => NO_APPARMOR;
    }
    "AppArmor, field before the deprecated one" {
        skip "a profile that is not loaded is refused" => NO_APPARMOR;
        skip "a profile keeps from writing" => NO_APPARMOR;
        skip "a permissive profile lets write" => NO_APPARMOR;
    }
    "Container, basics" {
        check "creating" => |case| containers::is_created(case).boxed_local();
        check "attributes" => |case| containers::keeps_its_attributes(case).boxed_local();
        check "starting" => |case| containers::starts(case).boxed_local();
        check "stopping" => |case| containers::stops(case).boxed_local();
        check "removing a created one" => |case| containers::is_removed(case, When::Created).boxed_local();
        check "removing a running one" => |case| containers::is_removed(case, When::Running).boxed_local();
        check "removing a stopped one" => |case| containers::is_removed(case, When::Stopped).boxed_local();
        check "a command" => |case| containers::runs_a_command(case).boxed_local();
        check "a command past its time" => |case| containers::ends_a_command_that_takes_too_long(case).boxed_local();
        check "usage" => |case| containers::has_usage(case).boxed_local();
        check "usage listed by id" => |case| containers::usage_is_listed_by_id(case).boxed_local();
        check "usage listed without a filter" => |case| containers::usage_is_listed_without_a_filter(case, 1).boxed_local();
        check "usage of three listed without a filter" => |case| containers::usage_is_listed_without_a_filter(case, 3).boxed_local();
        check "usage listed by labels" => |case| containers::usage_is_listed_by_labels(case).boxed_local();
    }
    "Container, volumes" {
        check "a directory of the host" => |case| containers::sees_a_volume(case, false).boxed_local();
        check "a link to a directory of the host" => |case| containers::sees_a_volume(case, true).boxed_local();
    }
    "Container, log" {
        check "writing" => |case| containers::writes_its_log(case).boxed_local();
        check "reopening" => |case| containers::reopens_its_log(case).boxed_local();
    }
    "Container, mount propagation" {
        check "private" => |case| mounts::propagation(case, MountPropagation::PropagationPrivate).boxed_local();
        check "bidirectional" => |case| mounts::propagation(case, MountPropagation::PropagationBidirectional).boxed_local();
        check "host to container" => |case| mounts::propagation(case, MountPropagation::PropagationHostToContainer).boxed_local();
    }
    "Container, memory" {
        check "killed for want of it" => |case| containers::is_killed_for_want_of_memory(case).boxed_local();
    }
    "Container, read-only mounts" {
        check "not recursive" => |case| mounts::read_only(case, false).boxed_local();
        check "recursive" => |case| mounts::read_only(case, true).boxed_local();
        check "recursive from host to container is refused" => |case| mounts::recursive_cannot_be(case, true, MountPropagation::PropagationHostToContainer).boxed_local();
        check "recursive and bidirectional is refused" => |case| mounts::recursive_cannot_be(case, true, MountPropagation::PropagationBidirectional).boxed_local();
        check "recursive and writable is refused" => |case| mounts::recursive_cannot_be(case, false, MountPropagation::PropagationPrivate).boxed_local();
    }
    "Idempotence" {
        check "stopping an unknown pod" => |case| idempotence::stopping_an_unknown_pod(case).boxed_local();
        check "stopping a pod twice" => |case| idempotence::stopping_a_pod_twice(case).boxed_local();
        check "removing an unknown pod" => |case| idempotence::removing_an_unknown_pod(case).boxed_local();
        check "stopping an unknown container" => |case| idempotence::stopping_an_unknown_container(case).boxed_local();
        check "stopping and removing a container twice" => |case| idempotence::stopping_and_removing_a_container_twice(case).boxed_local();
        check "removing an unknown container" => |case| idempotence::removing_an_unknown_container(case).boxed_local();
        check "removing an unknown image" => |case| idempotence::removing_an_unknown_image(case).boxed_local();
    }
    "Image" {
        serial "by tag" => |case| images::by_tag(case).boxed_local();
        serial "within a time" => |case| images::within_a_time(case).boxed_local();
        serial "without a tag" => |case| images::without_a_tag(case).boxed_local();
        serial "by digest" => |case| images::by_digest(case).boxed_local();
        serial "found by all its names" => |case| images::is_found_by_all_its_names(case).boxed_local();
        serial "its user" => |case| images::tells_its_user(case).boxed_local();
        serial "three listed" => |case| images::three_are_listed(case).boxed_local();
        serial "three tags of one" => |case| images::three_tags_are_one_image(case).boxed_local();
        serial "removed with all its tags" => |case| images::goes_with_all_its_tags(case).boxed_local();
        serial "removed with its tags of other registries" => |case| images::goes_with_its_tags_of_other_registries(case).boxed_local();
    }
    "Image, consistency" {
        serial "gone at once" => |case| images::is_gone_at_once(case).boxed_local();
        serial "there at once" => |case| images::is_there_at_once(case).boxed_local();
        serial "removed by many at once" => |case| images::can_be_removed_by_many_at_once(case).boxed_local();
    }
    "Image, identity" {
        serial "the same in all calls" => |case| images::has_one_id_everywhere(case).boxed_local();
        serial "the same from all registries" => |case| images::has_one_id_from_all_registries(case).boxed_local();
    }
    "Image volume" {
        check "its digest in the status" => |case| volumes::tells_its_digest(case).boxed_local();
        check "its files, read-only" => |case| volumes::is_there_and_read_only(case).boxed_local();
        check "writable is refused" => |case| volumes::cannot_be_writable(case).boxed_local();
        check "a part of it" => |case| volumes::can_be_a_part(case).boxed_local();
        check "a part that is not there" => |case| volumes::cannot_be_a_part_that_is_not_there(case).boxed_local();
    }
    "Several containers" {
        network "network" => |case| networking::several_containers(case).boxed_local();
        check "logs" => |case| containers::have_logs_of_their_own(case).boxed_local();
        check "commands" => |case| containers::run_commands_of_their_own(case).boxed_local();
    }
    "Networking" {
        check "resolver" => |case| networking::resolver(case).boxed_local();
        check "host name" => |case| networking::hostname(case).boxed_local();
        network "a port of the pod" => |case| networking::a_port_of_the_pod(case).boxed_local();
        network "a port of the host" => |case| networking::a_port_of_the_host(case).boxed_local();
    }
    "Node resource interface" {
        skip "a pod's life in order" => NO_NRI;
        skip "a container's life in order" => NO_NRI;
        skip "the life of a container that fails in order" => NO_NRI;
        skip "no pod is shown while it is being made" => NO_NRI;
        skip "no container starts while the pod is being made" => NO_NRI;
        skip "a pod that a hook refuses is undone" => NO_NRI;
        skip "containers end before a pod's stop hook" => NO_NRI;
        skip "a pod is stopped once" => NO_NRI;
        skip "no container is shown while it is being made" => NO_NRI;
        skip "a container that a hook refuses is undone" => NO_NRI;
        skip "a new plugin learns what is there" => NO_NRI;
        skip "a new plugin learns of what is made meanwhile" => NO_NRI;
        skip "a new plugin misses nothing" => NO_NRI;
    }
    "Pod, basics" {
        check "running" => |case| pods::runs_and_is_listed(case).boxed_local();
        check "stopping" => |case| pods::stops(case).boxed_local();
        check "removing" => |case| pods::is_removed(case).boxed_local();
        check "attributes" => |case| pods::keeps_its_attributes(case).boxed_local();
    }
    "Pod, metrics" {
        check "described" => |case| metrics::are_described(case).boxed_local();
        check "counted" => |case| metrics::are_counted(case).boxed_local();
    }
    "Pod, kernel parameters" {
        check "safe" => |case| pods::sets_kernel_parameters(case, "kernel.shm_rmid_forced", "1").boxed_local();
        check "unsafe" => |case| pods::sets_kernel_parameters(case, "fs.mqueue.msg_max", "100").boxed_local();
    }
    "Runtime" {
        check "version" => |case| pods::tells_its_version(case).boxed_local();
        check "conditions" => |case| pods::tells_its_conditions(case).boxed_local();
    }
    "Security, namespaces" {
        check "the host's processes" => |case| namespaces::processes_of_the_host(case).boxed_local();
        check "the host's shared memory" => |case| namespaces::shared_memory(case, NamespaceMode::Node).boxed_local();
        check "the pod's shared memory" => |case| namespaces::shared_memory(case, NamespaceMode::Pod).boxed_local();
        check "the pod's processes" => |case| namespaces::processes_of_the_pod(case).boxed_local();
        check "the container's processes" => |case| namespaces::processes_of_the_container(case).boxed_local();
        check "the host's network" => |case| namespaces::network(case, NamespaceMode::Node).boxed_local();
        check "the pod's network" => |case| namespaces::network(case, NamespaceMode::Pod).boxed_local();
    }
    "Security, container" {
        check "supplemental groups" => |case| users::supplemental_groups(case).boxed_local();
        check "user" => |case| users::user(case).boxed_local();
        check "user by name" => |case| users::user_by_name(case).boxed_local();
        check "group" => |case| users::user_and_group(case).boxed_local();
        check "a group without a user is refused" => |case| users::a_group_needs_a_user(case).boxed_local();
        check "writable root" => |case| privileges::read_only_root(case, false).boxed_local();
        check "read-only root" => |case| privileges::read_only_root(case, true).boxed_local();
        check "privileged" => |case| privileges::privileged(case, true).boxed_local();
        check "not privileged" => |case| privileges::privileged(case, false).boxed_local();
        check "a capability added" => |case| privileges::an_added_capability(case).boxed_local();
        check "a capability dropped" => |case| privileges::a_dropped_capability(case).boxed_local();
        check "all capabilities added" => |case| privileges::all_capabilities(case).boxed_local();
        check "all capabilities dropped" => |case| privileges::no_capabilities(case).boxed_local();
        check "masked paths" => |case| privileges::masked_paths(case).boxed_local();
        check "read-only paths" => |case| privileges::readonly_paths(case).boxed_local();
    }
    "Security, policy of supplemental groups" {
        check "merge" => |case| users::groups_of_the_image(case, SupplementalGroupsPolicy::Merge, &[1000, 1234, 50_000]).boxed_local();
        check "strict" => |case| users::groups_of_the_image(case, SupplementalGroupsPolicy::Strict, &[1000, 1234]).boxed_local();
    }
    "Security, seccomp" {
        check "unconfined" => |case| privileges::seccomp(case, Some(ProfileType::Unconfined), "0").boxed_local();
        check "a file" => |case| privileges::seccomp_of_a_file(case).boxed_local();
        check "default" => |case| privileges::seccomp(case, Some(ProfileType::RuntimeDefault), "2").boxed_local();
        check "none" => |case| privileges::seccomp(case, None, "0").boxed_local();
        check "the host name, unconfined" => |case| privileges::sets_the_hostname(case, Hostname::Unconfined).boxed_local();
        check "the host name, blocked" => |case| privileges::sets_the_hostname(case, Hostname::Blocked).boxed_local();
        check "the host name, blocked but privileged" => |case| privileges::sets_the_hostname(case, Hostname::BlockedButPrivileged).boxed_local();
    }
    "Security, new privileges" {
        check "none" => |case| privileges::no_new_privileges(case, true).boxed_local();
        check "allowed" => |case| privileges::no_new_privileges(case, false).boxed_local();
    }
    "Security, users of a namespace" {
        check "the pod's" => |case| namespaces::users_of_the_pod(case).boxed_local();
        check "the host's" => |case| namespaces::users_of_the_host(case).boxed_local();
        check "more than one mapping is refused" => |case| namespaces::users_that_cannot_be(case, NamespaceMode::Pod, &[(0, 1000, 100_000), (0, 2000, 100_000)]).boxed_local();
        check "a mapping without root is refused" => |case| namespaces::users_that_cannot_be(case, NamespaceMode::Pod, &[(1, 1000, 100_000)]).boxed_local();
        check "the container's are refused" => |case| namespaces::users_that_cannot_be(case, NamespaceMode::Container, &[]).boxed_local();
        check "a target's are refused" => |case| namespaces::users_that_cannot_be(case, NamespaceMode::Target, &[]).boxed_local();
    }
    "Streaming" {
        check "a command" => |case| streaming::a_command(case).boxed_local();
        check "a command on a terminal" => |case| streaming::a_command_on_a_terminal(case).boxed_local();
        check "a container's own" => |case| streaming::a_containers_own(case).boxed_local();
        check "a port" => |case| streaming::a_port(case).boxed_local();
        check "a port of the host's network" => |case| streaming::a_port_of_the_hosts_network(case).boxed_local();
    }
}
