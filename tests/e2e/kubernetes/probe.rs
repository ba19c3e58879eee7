//! The component that runs `doorward probe`: its manifests, what it may read, and when its alerts fire.

use super::*;
use crate::harness::program;

fn with_probe() -> String {
    production_with(|text| format!("{text}components:\n  - ../../components/probe\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_with_the_probe_fits_and_its_job_has_only_the_probe_key() {
    let manifests = with_probe();
    judged(&manifests).unwrap();
    let job = object(&manifests, "CronJob", "doorward-probe");
    let pod = at(&job, "spec.jobTemplate.spec.template.spec");
    assert_eq!(text(pod, "volumes.1.secret.secretName"), "doorward-probe");
    let settings = text(pod, "volumes.0.configMap.name");
    assert!(settings.starts_with("doorward-"), "{settings}");
    let container = at(pod, "containers.0");
    assert_eq!(
        text(container, "image"),
        "registry.example.com/doorward:0.1.0"
    );
    let env = at(container, "env").as_vec().unwrap();
    let names: Vec<_> = env.iter().map(|one| text(one, "name")).collect();
    assert_eq!(names, ["DOORWARD_CONFIG", "DOORWARD_PROBE__KEY_FILE"]);
    // Neither the Service nor the NetworkPolicy of Doorward selects the pods of the probe.
    let labels = at(&job, "spec.jobTemplate.spec.template.metadata.labels");
    assert_eq!(
        labels["app.kubernetes.io/name"].as_str(),
        Some("doorward-probe")
    );
    // Doorward itself gets the key, and keeps what it had.
    let doorward = object(&manifests, "Deployment", "doorward");
    let own = at(&doorward, "spec.template.spec.containers.0.env")
        .as_vec()
        .unwrap();
    let own: Vec<_> = own.iter().map(|one| text(one, "name")).collect();
    assert!(
        own.contains(&"DOORWARD_PROBE__KEY_FILE") && own.contains(&"MYSQL_PASSWORD_FILE"),
        "{own:?}"
    );

    // The job needs only the settings of the overlay and the probe key, none of Doorward's other secrets.
    let home = Doorward::prepare(|settings| {
        let file = repository().join("k8s/overlays/production/doorward.toml");
        settings.toml(fs::read_to_string(file).unwrap()).env(
            "DOORWARD_PROBE__KEY",
            "9d2f61c07b3e48a5bc10d7f2e6549831a7c0be524f6d8139",
        );
    });
    let arguments = at(container, "args").as_vec().unwrap();
    let nobody = format!("http://{}", crate::harness::free_address());
    let arguments: Vec<_> = arguments
        .iter()
        .map(|one| one.as_str().unwrap())
        .map(|one| {
            if one.starts_with("https://") {
                &*nobody
            } else {
                one
            }
        })
        .chain(["--rate", "500"])
        .collect();
    let ran = home.run(&arguments, "").await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains("\"finding\": \"unreachable\""),
        "{ran:?}"
    );
}

#[test]
fn the_alerts_of_the_probe_fire_and_do_not_fire() {
    let manifests = with_probe();
    let text = fs::read_to_string(repository().join("k8s/components/probe/alert.yaml")).unwrap();
    let (_, groups) = text.split_once("spec:\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rules.yaml"), groups).unwrap();
    let names = ["DoorwardNotInTheWay", "DoorwardProbeMissing"];
    let guide = fs::read_to_string(repository().join("docs/probe.md")).unwrap();
    for name in names {
        assert!(manifests.contains(&format!("alert: {name}\n")), "{name}");
        assert!(guide.contains(&format!("\n### {name}\n")), "{name}");
    }
    let failed = "kube_job_status_failed{job_name=\"doorward-probe-1\",namespace=\"doorward\"}";
    let created = "kube_job_created{job_name=\"doorward-probe-1\",namespace=\"doorward\"}";
    let last = "kube_cronjob_status_last_successful_time{cronjob=\"doorward-probe\",namespace=\"doorward\"}";
    let info = "kube_cronjob_info{cronjob=\"doorward-probe\",namespace=\"doorward\"}";
    let series = |failed_jobs: &str, last_success: &str, has_job: bool| {
        let info = match has_job {
            true => format!("      - series: '{info}'\n        values: '1x200'\n"),
            false => String::new(),
        };
        format!(
            "  - interval: 1m\n    input_series:\n      - series: '{failed}'\n        values: '{failed_jobs}'\n      - series: '{created}'\n        values: '0x200'\n      - series: '{last}'\n        values: '{last_success}'\n{info}    alert_rule_test:\n"
        )
    };
    let alert = |at: &str, name: &str, severity: Option<(&str, &str)>| {
        let expected = match severity {
            None => " []\n".to_owned(),
            Some((severity, labels)) => format!(
                "\n          - exp_labels: {{ severity: {severity}{labels} }}\n            exp_annotations: {}\n",
                annotations(groups, name)
            ),
        };
        format!("      - eval_time: {at}\n        alertname: {name}\n        exp_alerts:{expected}")
    };
    let own = ", namespace: doorward";
    let cases = [
        "rule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n".to_owned(),
        series("0x200", "0+60x200", true),
        alert("10m", names[0], None),
        alert("90m", names[1], None),
        series("1x200", "0x200", true),
        alert("10m", names[0], Some(("critical", own))),
        // The next probes decide; an old failure does not fire for ever.
        alert("45m", names[0], None),
        alert("50m", names[1], None),
        alert("90m", names[1], Some(("warning", own))),
        series("0x200", "0+60x200", false),
        alert(
            "10m",
            names[1],
            Some(("warning", ", cronjob: doorward-probe")),
        ),
    ];
    fs::write(dir.path().join("cases.yaml"), cases.concat()).unwrap();
    let ran = Command::new(program("promtool"))
        .args(["test", "rules", "cases.yaml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
}

/// The annotations of an alert, as they are written.
fn annotations(groups: &str, name: &str) -> String {
    let (_, alert) = groups.split_once(&format!("- alert: {name}\n")).unwrap();
    let (_, lines) = alert.split_once("annotations:\n").unwrap();
    let lines = lines.lines().take(3).map(str::trim);
    format!("{{ {} }}", lines.collect::<Vec<_>>().join(", "))
}
