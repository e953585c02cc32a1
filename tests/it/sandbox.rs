//! `sdl sandbox`: brokers that other processes use.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Cluster, Running, Sdl, eventually, read};

/// Returns a running sandbox and its profile, once that is there.
fn sandbox(arguments: &str) -> (Running, String) {
    let running = Sdl::new(&format!("sandbox {arguments} --file sandbox.ini")).start();
    let path = running.path("sandbox.ini");
    let profile = eventually("the profile is there", Duration::from_secs(30), || {
        // The last line of the profile; the file is written in one go, but it can be read before.
        std::fs::read_to_string(&path).ok().filter(|text| text.matches("kafka.session.timeout.ms").count() == 2)
    });
    (running, profile)
}

/// Returns the servers of the sections of `profile`, in order.
fn servers(profile: &str) -> Vec<&str> {
    profile.lines().filter_map(|line| line.strip_prefix("servers = ")).collect()
}

#[test]
fn a_second_sdl_talks_to_the_sandbox() {
    let (running, profile) = sandbox("logins:3 others");
    let servers = servers(&profile);
    let (remote, local) = (Cluster::at(servers[0]), Cluster::at(servers[1]));
    assert_eq!((remote.partitions("logins"), local.partitions("logins"), local.partitions("others")), (3, 3, 4));

    let sdl = |arguments: &str| Sdl::new(arguments).profile(&profile).run().expect(0);
    sdl("produce-fake --target remote_kafka logins -n 1000 --seed 1");
    sdl("replicate --until-caught-up");
    let (there, here) = (read(&remote, "logins"), read(&local, "logins"));
    assert_eq!(there.len(), 1000);
    assert_eq!(there, here);
    sdl("produce-fake --target remote_kafka logins -n 500 --seed 2");
    let second = sdl("replicate --until-caught-up -o json").json();
    assert_eq!(second["delivered"], 500, "the second run goes on where the first ended: {second}");
    assert_eq!(read(&remote, "logins"), read(&local, "logins"));

    // The mock keeps a group without members as it is.
    let reset =
        Sdl::new("offsets reset sandbox --position beginning --target remote_kafka --yes").profile(&profile).run().expect(1);
    let hint = "hint: embedded brokers change only the offsets of groups that never had members: name another group\n";
    assert!(reset.stderr.ends_with(hint), "{}", reset.stderr);

    running.signal("INT");
    let ended = running.wait().expect(0);
    assert_eq!(String::from_utf8(ended.stdout.clone()).unwrap(), profile, "the profile is the data");
    assert!(ended.stderr.ends_with("The clusters have ended.\n"), "{}", ended.stderr);
    assert!(!ended.path("sandbox.ini").exists());
}

#[test]
fn the_suggested_command_lines_succeed() {
    let (running, _) = sandbox("");
    let mut running = running;
    running.wait_for_stderr("In another terminal");
    let printed = running.stderr();
    let profile = printed.lines().find_map(|line| line.trim().strip_prefix("export SDL_PROFILE=")).expect("a line for the shell");
    assert_eq!(std::path::Path::new(profile), running.path("sandbox.ini").canonicalize().unwrap(), "the name was relative");
    let lines = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect::<Vec<_>>().join("\n");
    assert!(lines.matches("\nsdl ").count() >= 2, "{printed}");
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_sdl")).parent().unwrap();
    // Other programs may be missing: only lines of `sdl` without a pipe run, and each must succeed.
    let ours = lines.lines().filter(|line| line.starts_with("sdl ") || line.starts_with("export "));
    let script = format!(
        "set -e\nPATH={}:$PATH\ncd {}\n{}",
        folder.display(),
        running.path("").display(),
        ours.collect::<Vec<_>>().join("\n")
    );
    let ran = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(ran.status.success(), "{script}\n{}", String::from_utf8_lossy(&ran.stderr));
    running.end();
}

#[test]
fn what_embedded_brokers_cannot_do_is_named() {
    let (running, profile) = sandbox("logins:1");
    let refused = |arguments: &str| {
        let run = |arguments: &str| Sdl::new(arguments).profile(&profile).run().expect(1).stderr;
        if !arguments.starts_with("tail") {
            let (dry, stderr) = (run(&format!("{arguments} --dry-run")), run(arguments));
            let error = |stderr: &str| stderr[stderr.find("error: ").expect("an error")..].to_owned();
            assert_eq!(error(&dry), error(&stderr), "a dry run says what a run would");
        }
        run(arguments)
    };
    Sdl::new("produce-fake logins -n 10").profile(&profile).run().expect(0);
    let topic = |name: &str| {
        format!(
            "error: cannot create topic `{name}` on `local_kafka`\n  caused by: embedded brokers cannot create topics\n\
             hint: name it at the start of the brokers: sdl sandbox ... {name}:1\n"
        )
    };
    let aggregate = refused("aggregate logins --until-caught-up --group counts");
    assert!(aggregate.ends_with(&topic("user-login-processed")), "{aggregate}");
    let copies = refused("replicate logins --to-topic copies --until-caught-up");
    assert!(copies.ends_with(&topic("copies")), "{copies}");
    let letters = refused("replicate logins --to-topic logins --until-caught-up --dead-letters topic:bad");
    assert!(letters.ends_with(&topic("bad")), "{letters}");
    let by_time = "error: cannot list the offsets of `local_kafka`\n  caused by: embedded brokers find no offsets by time\n\
                   hint: name an offset, `beginning` or `end`\n";
    assert_eq!(refused("tail logins --start @-1h"), by_time);
    drop(running);
}

#[test]
fn a_run_of_aggregate_is_told_that_embedded_brokers_lose_its_offsets() {
    let (running, profile) = sandbox("logins:1 user-login-processed:1");
    Sdl::new("produce-fake --target local_kafka logins -n 100").profile(&profile).run().expect(0);
    let ended = Sdl::new("aggregate logins --until-caught-up --group counts").profile(&profile).run().expect(0);
    let line = "Embedded brokers lose the offsets of transactions: the next run counts and writes each window again.";
    assert!(ended.stderr.contains(line), "{}", ended.stderr);
    drop(running);
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let run = Sdl::new("sandbox --file database.ini").profile("# mine\n");
    let ended = run.run().expect(1);
    let expected = "error: cannot write `database.ini`\n  caused by: File exists (os error 17)\n\
                    hint: name a new file in an existing directory\n";
    assert_eq!(ended.stderr, expected);
    assert_eq!(std::fs::read_to_string(ended.path("database.ini")).unwrap(), "# mine\n");
}

#[test]
fn an_invalid_topic_name_is_a_usage_error() {
    let ended = Sdl::new("sandbox a/b").run().expect(2);
    assert!(
        ended.stderr.contains("not a valid topic name: use up to 249 letters, digits, dots, underscores and dashes"),
        "{}",
        ended.stderr
    );
}

#[test]
#[ignore = "needs kcat"]
fn real_kcat_talks_to_the_sandbox() {
    let (running, profile) = sandbox("logins:3");
    let broker = servers(&profile)[1];
    Sdl::new("produce-fake logins -n 500").profile(&profile).run().expect(0);
    let read = Command::new("kcat").args(["-b", broker, "-t", "logins", "-C", "-e", "-q", "-f", "%p\n"]).output().unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap().lines().count(), 500);

    let mut write = Command::new("kcat");
    write.args(["-b", broker, "-t", "logins", "-P", "-p", "1", "-K", ":"]).stdin(std::process::Stdio::piped());
    let mut child = write.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"k:v\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(Cluster::at(broker).count("logins"), 501);
    running.signal("INT");
    running.wait().expect(0);
}
