//! A machine without a default route has no way to a service's address, and a packet without a way is refused
//! before any rule sees it. Such a machine gets a route to the services through the pods' bridge.

use anyhow::Context;
use ipnet::IpNet;
use knode_netlink::{Event, Events, Handle, Route, Topic, replace_route};
use knode_podnet::Subnet;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Leads to nobody: the rules take the packets before they leave.
const BRIDGE: &str = "cni0";

/// Keeps the routes, one of each family, as long as the pod network lives. They go with the bridge.
pub fn spawn_routes(
    services: Vec<IpNet>,
    subnet: watch::Receiver<Option<Subnet>>,
    tasks: &mut JoinSet<String>,
) {
    tasks.spawn(async move {
        match follow(&services, subnet).await {
            Ok(()) => "the pod network ended".into(),
            Err(error) => format!("the routes to services failed: {error:#}"),
        }
    });
}

async fn follow(services: &[IpNet], mut subnet: watch::Receiver<Option<Subnet>>) -> anyhow::Result<()> {
    let handle = Handle::open().context("open route netlink")?;
    let mut events = Events::open(&[Topic::Links, Topic::Routes]).context("watch the routes")?;
    loop {
        for services in services {
            ensure(&handle, *services)?;
        }
        loop {
            tokio::select! {
                changed = subnet.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                event = events.next() => if concerns(&event.context("watch the routes")?) {
                    break;
                },
            }
        }
    }
}

/// Whether the route may have to be made, or made again.
fn concerns(event: &Event) -> bool {
    match event {
        Event::Lost | Event::RouteGone(_) => true,
        Event::Link(link) => link.name == BRIDGE,
        _ => false,
    }
}

/// Adds the route if there is a bridge and no other way.
fn ensure(handle: &Handle, services: IpNet) -> anyhow::Result<()> {
    let Some(bridge) = handle.link(BRIDGE).context("look for the bridge")? else {
        return Ok(());
    };
    let way = handle
        .route_to(services.network())
        .context("look for a way to the services")?;
    if way.is_some() {
        return Ok(());
    }
    let route = Route::new(services.trunc(), bridge.index);
    match handle.execute(replace_route(&route)) {
        Ok(()) => tracing::info!(%services, "no default route: services are routed through {BRIDGE}"),
        // A bridge that isn't up yet takes no route; it is tried again when it is.
        Err(error) => tracing::debug!(%error, "the route to services is not possible yet"),
    }
    Ok(())
}
