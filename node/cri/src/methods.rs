//! The one list of unary CRI methods, from which traits and both adapters are made.

/// Calls `$with!` with every unary method of the runtime service.
macro_rules! runtime_methods {
    ($with:ident) => {
        $with! {
            /// Name and version of the runtime.
            version(VersionRequest) -> VersionResponse;
            /// Creates and starts a sandbox; it is ready when this returns.
            run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
            /// Ends what runs in the sandbox and gives its network back. Succeeds for an unknown sandbox.
            stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
            /// Removes the sandbox and its containers. Succeeds for an unknown sandbox.
            remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
            /// One sandbox, `NotFound` if there is none.
            pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
            /// Sandboxes that match the filter.
            list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
            /// Creates a container; nothing of it runs yet.
            create_container(CreateContainerRequest) -> CreateContainerResponse;
            /// Starts a created container.
            start_container(StartContainerRequest) -> StartContainerResponse;
            /// Sends the stop signal, waits `timeout` seconds, kills. Succeeds for an unknown container.
            stop_container(StopContainerRequest) -> StopContainerResponse;
            /// Removes a container, killing it if it runs. Succeeds for an unknown container.
            remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
            /// Containers that match the filter.
            list_containers(ListContainersRequest) -> ListContainersResponse;
            /// One container, `NotFound` if there is none.
            container_status(ContainerStatusRequest) -> ContainerStatusResponse;
            /// Changes the limits of a container.
            update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
            /// Returns when the container writes to a newly opened log file.
            reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
            /// Runs a command to its end; `DeadlineExceeded` past `timeout` seconds (0: no limit).
            exec_sync(ExecSyncRequest) -> ExecSyncResponse;
            /// A one-time URL that streams a command.
            exec(ExecRequest) -> ExecResponse;
            /// A one-time URL that streams the container's own input and output.
            attach(AttachRequest) -> AttachResponse;
            /// A one-time URL that forwards ports into the sandbox's network.
            port_forward(PortForwardRequest) -> PortForwardResponse;
            /// Usage of one container, `NotFound` if there is none.
            container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
            /// Usage of the running containers that match the filter.
            list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
            /// Usage of one sandbox with its containers.
            pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
            /// Usage of the sandboxes that match the filter.
            list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
            /// Tells the runtime the node's pod network.
            update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
            /// Whether runtime and network are ready.
            status(StatusRequest) -> StatusResponse;
            /// Writes a checkpoint of a container.
            checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
            /// Names and label keys of what `list_pod_sandbox_metrics` gives.
            list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
            /// Metrics under the names that cAdvisor uses.
            list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
            /// The runtime's own configuration (cgroup driver).
            runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
            /// Changes the limits of a pod's cgroup, told to the runtime by the kubelet.
            update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
        }
    };
}

/// Calls `$with!` with every unary method of the image service.
macro_rules! image_methods {
    ($with:ident) => {
        $with! {
            /// Images that match the filter.
            list_images(ListImagesRequest) -> ListImagesResponse;
            /// One image by id, tag or digest; an empty answer if there is none.
            image_status(ImageStatusRequest) -> ImageStatusResponse;
            /// Pulls an image; `image_ref` of the answer is the image's id.
            pull_image(PullImageRequest) -> PullImageResponse;
            /// Removes an image with all its tags. Succeeds for an unknown image.
            remove_image(RemoveImageRequest) -> RemoveImageResponse;
            /// Usage of the file systems that hold images and containers.
            image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
        }
    };
}

pub(crate) use image_methods;
pub(crate) use runtime_methods;
