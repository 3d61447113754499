//! StopContainer.

use std::sync::Arc;
use std::time::Duration;

use knode_cri::ContainerState;

use super::Container;
use crate::crash;
use crate::engine::Core;
use crate::error::{EngineError, Result};
use crate::shim::protocol::Command;

impl Core {
    /// Sends the stop signal, waits `grace`, kills. One that does not run is no error.
    ///
    /// # Errors
    /// When the shim cannot be asked.
    pub(crate) async fn stop_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        grace: Duration,
    ) -> Result<()> {
        if !self.is_running(container).await {
            return Ok(());
        }
        crash::point("stop.asked");
        if !grace.is_zero() {
            let signal = container.with(|record| record.stop_signal);
            self.signal(container, signal, false).await?;
            crash::point("stop.signalled");
            if tokio::time::timeout(grace, container.wait_over()).await.is_ok() {
                return Ok(());
            }
        }
        self.kill_container(container).await
    }

    /// Kills a container and waits for its end. One that does not run is no error.
    ///
    /// # Errors
    /// When the shim cannot be asked.
    pub(crate) async fn kill_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        if self.is_running(container).await {
            self.signal(container, libc::SIGKILL, true).await?;
            container.wait_over().await;
        }
        Ok(())
    }

    /// Waits for a start that is under way.
    async fn is_running(&self, container: &Container) -> bool {
        let _guard = container.changing.lock().await;
        container.state() == ContainerState::ContainerRunning
    }

    async fn signal(self: &Arc<Self>, container: &Arc<Container>, signal: i32, all: bool) -> Result<()> {
        let link = self.sandbox(&container.sandbox_id)?.link()?;
        let command = Command::Signal {
            container: container.id.clone(),
            signal,
            all,
        };
        match link.ask(command, &[]).await {
            // Not known to the shim: its end is on the way to us.
            Ok(_) => Ok(()),
            Err(EngineError::ShimGone { .. }) => {
                self.lost_container(container).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
