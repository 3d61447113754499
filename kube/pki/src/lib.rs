//! Certificate authority, certificates, signing requests, kubeconfigs, rotation plans.
