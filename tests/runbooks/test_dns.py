from __future__ import annotations

from typing import Any

from runbooks.detectors import dns
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import deployment, manifest, pod, service
from tests.runbooks.worlds import codes, world

CART = service("cart", {"app": "cart"}, clusterIP="10.96.1.1")


def caller(**spec: Any) -> str:
    return pod("web-1", {"app": "web"}, container={"env": [{"name": "CART_ADDR", "value": "cart:80"}]}, **spec)


def found(text: str, **arguments: Any) -> list[Finding]:
    made = world(text, **arguments)
    return [finding for detector in dns.DETECTORS for finding in detector(made)]


def corefile(text: str) -> str:
    return manifest("ConfigMap", "coredns", namespace="kube-system", data={"Corefile": text})


def test_pods_that_ask_another_resolver_cannot_find_services() -> None:
    public: dict[str, Any] = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["8.8.8.8"]}}
    assert codes(found(CART + caller(dnsPolicy="Default"))) == {"dns.policy-bypasses-cluster"}
    assert codes(found(CART + pod("web-1", {"app": "web"}, **public))) == {"dns.policy-bypasses-cluster"}
    assert codes(found(CART + caller(hostNetwork=True))) == {"dns.policy-bypasses-cluster"}


def test_pods_that_use_the_clusters_resolver_are_fine() -> None:
    own = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"]}}
    assert found(CART + caller()) == []
    assert found(CART + caller(**own)) == []
    assert found(CART + caller(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")) == []
    assert found(CART + pod("batch", {"app": "batch"}, dnsPolicy="Default")) == []


def test_a_configuration_that_denies_the_clusters_own_names() -> None:
    denies = corefile('.:53 {\n template ANY ANY svc.cluster.local {\n  match "cart.shop.svc.cluster.local"\n  rcode NXDOMAIN\n }\n}')
    findings = found(denies + CART)
    assert [(finding.code, finding.certainty) for finding in findings] == [("dns.configuration-denies", Certainty.PROVEN)]
    assert [ref.name for ref in findings[0].affects] == ["cart"]


def test_an_ordinary_configuration_is_fine() -> None:
    ordinary = """.:53 {
        errors
        kubernetes cluster.local in-addr.arpa { pods insecure }
        template ANY AAAA . {
            rcode NOERROR
        }
        forward . /etc/resolv.conf
    }"""
    assert found(corefile(ordinary)) == []


def test_a_dns_server_without_ready_pods() -> None:
    server = service("kube-dns", {"k8s-app": "kube-dns"}, namespace="kube-system")
    made = deployment("coredns", {"k8s-app": "kube-dns"}, namespace="kube-system")

    def answering(ready: bool) -> str:
        return pod("coredns-1", {"k8s-app": "kube-dns"}, namespace="kube-system", ready=ready)

    assert [finding.certainty for finding in found(server + made + answering(False))] == [Certainty.PROVEN]
    assert found(server + made + answering(True)) == []
    loop = {("kube-system", "coredns-1", "main"): '[FATAL] plugin/loop: Loop (127.0.0.1:1 -> :53) detected for zone "."'}
    assert codes(found(server + made + answering(True), logs=loop)) == {"dns.server-failing"}


def test_a_name_that_does_not_resolve_though_its_service_exists() -> None:
    web = pod("web-1", {"app": "web"}, ready=False)
    log = {
        ("shop", "web-1", "main"): "Error: getaddrinfo ENOTFOUND cart\nError: getaddrinfo ENOTFOUND cart\nError: getaddrinfo ENOTFOUND cart"
    }
    findings = found(CART + web, logs=log)
    assert codes(findings) == {"dns.name-unresolved"}
    assert [ref.name for ref in findings[0].affects] == ["web-1", "cart"]
    assert found(service("pay", None) + web, logs=log) == []


def test_a_misspelled_domain_is_no_fault_of_the_dns() -> None:
    web = pod("web-1", {"app": "web"}, ready=False)

    def failing(host: str) -> list[Finding]:
        return found(CART + web, logs={("shop", "web-1", "main"): f"Error: getaddrinfo ENOTFOUND {host}\n" * 3})

    assert codes(failing("cart.shop.svc.cluster.local")) == {"dns.name-unresolved"}
    assert failing("cart.shop.svc.cluster.locl") == []


def test_a_dns_that_does_not_answer_whatever_the_name() -> None:
    web = pod("web-1", {"app": "web"}, ready=False)
    log = {("shop", "web-1", "main"): "Error: getaddrinfo EAI_AGAIN smtp.example.com\n" * 3}
    findings = found(CART + web, logs=log)
    assert [(finding.code, str(finding.subject)) for finding in findings] == [("dns.unanswered", "Service/kube-system/kube-dns")]
    assert found(CART + web, logs={("shop", "web-1", "main"): "Error: getaddrinfo ENOTFOUND smtp.example.com\n" * 3}) == []


def test_pods_that_a_policy_keeps_from_the_dns_do_not_accuse_it() -> None:
    closed = manifest(
        "NetworkPolicy", "closed", spec={"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}
    )
    web = pod("web-1", {"app": "web"}, ready=False)
    for line in ("getaddrinfo EAI_AGAIN cart", "getaddrinfo ENOTFOUND cart"):
        assert found(closed + CART + web, logs={("shop", "web-1", "main"): f"Error: {line}\n" * 3}) == []


def test_the_name_of_a_headless_service_without_a_ready_pod_does_not_resolve_by_design() -> None:
    log = {("shop", "web-1", "main"): "Error: getaddrinfo ENOTFOUND db\n" * 3}
    web, headless = pod("web-1", {"app": "web"}, ready=False), service("db", {"app": "db"}, clusterIP="None")
    assert found(headless + web + pod("db-0", {"app": "db"}, ready=False), logs=log) == []
    assert codes(found(headless + web + pod("db-0", {"app": "db"}), logs=log)) == {"dns.name-unresolved"}


def aliased(ip: str, name: str) -> str:
    return CART + deployment("web", {"app": "web"}, template_spec={"hostAliases": [{"ip": ip, "hostnames": [name]}]})


def test_an_entry_in_hosts_that_hides_a_service() -> None:
    for name in ("cart", "cart.shop", "cart.shop.svc.cluster.local"):
        (finding,) = dns.host_alias_shadows_service(world(aliased("127.0.0.1", name)))
        assert (finding.code, str(finding.subject)) == ("dns.host-alias-shadows-service", "Deployment/shop/web")


def test_an_entry_for_another_name_or_for_the_service_s_own_address_hides_nothing() -> None:
    for ip, name in (
        ("10.96.1.1", "cart"),
        ("10.0.0.9", "cart.example.com"),
        ("10.0.0.9", "cart.shop.svc.clusterset.local"),
        ("127.0.0.1", "cache"),
    ):
        assert not list(dns.host_alias_shadows_service(world(aliased(ip, name))))
    # Itself, or a proxy beside it.
    own = CART + deployment("cart", {"app": "cart"}, template_spec={"hostAliases": [{"ip": "127.0.0.1", "hostnames": ["cart"]}]})
    beside = [{"name": name, "image": "app:1"} for name in ("main", "proxy")]
    proxied = deployment(
        "web", {"app": "web"}, template_spec={"containers": beside, "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["cart"]}]}
    )
    for text in (own, CART + proxied):
        assert not list(dns.host_alias_shadows_service(world(text)))
        assert list(dns.host_alias_shadows_service(world(text.replace("127.0.0.1", "10.0.0.9"))))
