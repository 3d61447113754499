use super::*;

const SUBNET: &str =
    "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

fn opts(args: &[&str]) -> DockerOpts {
    let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
    DockerOpts::parse(&args).unwrap()
}

fn render(args: &[&str], subnet: Option<&str>) -> String {
    opts(args).render(subnet, &BTreeMap::new()).unwrap()
}

#[test]
fn a_unit_file_of_today() {
    let opts = opts(&["-k", "DOCKER_NETWORK_OPTIONS", "-d", "/run/flannel/docker"]);
    assert_eq!(opts.docker_file, PathBuf::from("/run/flannel/docker"));
    assert_eq!(opts.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
    let want = "DOCKER_OPT_BIP=\"--bip=172.30.65.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=true\"\n\
        DOCKER_OPT_MTU=\"--mtu=1450\"\n\
        DOCKER_NETWORK_OPTIONS=\" --bip=172.30.65.1/24 --ip-masq=true --mtu=1450\"\n";
    assert_eq!(opts.render(Some(SUBNET), &BTreeMap::new()).unwrap(), want);
}

#[test]
fn individual_combined_and_without_masquerading() {
    assert_eq!(
        render(&["-cm"], Some(SUBNET)),
        "DOCKER_OPTS=\" --bip=172.30.65.1/24 --mtu=1450\"\n"
    );
    assert_eq!(
        render(&["-i", "-m"], Some(SUBNET)),
        "DOCKER_OPT_BIP=\"--bip=172.30.65.1/24\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\n"
    );
    let masquerades = SUBNET.replace("false", "true");
    assert!(render(&["-c"], Some(&masquerades)).contains("--ip-masq=false"));
    assert_eq!(render(&["-kX", "-c"], None), "X=\"\"\n", "no subnet file");
}

#[test]
fn the_environment_is_taken_along() {
    let environment = [
        ("DOCKER_OPTS", "--debug"),
        ("DOCKER_OPT_LOG", "--log-level=warn"),
        ("HOME", "/"),
    ];
    let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(
        opts(&["-c", "-m"])
            .render(Some("FLANNEL_MTU=\"1400\"\n# x=y\n"), &environment)
            .unwrap(),
        "DOCKER_OPTS=\"--debug  --log-level=warn --mtu=1400\"\n"
    );
}

#[test]
fn nonsense_is_refused() {
    let problem = |args: &[&str]| {
        let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
        DockerOpts::parse(&args).unwrap_err().to_string()
    };
    assert!(problem(&["-z"]).contains("-z"));
    assert!(problem(&["-d"]).contains("-d needs a value"));
    assert!(problem(&["-k", "a b"]).contains("name of a variable"));
    let wrong = SUBNET.replace("false", "maybe");
    let error = opts(&[]).render(Some(&wrong), &BTreeMap::new()).unwrap_err();
    assert_eq!(error, DockerOptsError::Masquerade("maybe".into()));
}
