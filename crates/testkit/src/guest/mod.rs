//! A virtual machine in a rig: QEMU with a small Linux guest that does what a test says.
//!
//! The guest's image is made by [`prepare`], from Debian packages; tests are told in [`IMAGE`] where it
//! is. The guest configures nothing by itself and takes commands over a serial line, which has
//! nothing to do with its network. Its `/bin/peer` is the helper of [`crate::peer`].

mod image;
mod qmp;

pub use image::{IMAGE, prepare};

use crate::proc::Proc;
use crate::rig::{Place, Rig, RigError, User};
use crate::wait::wait_for;
use anyhow::{Context, Result, anyhow, bail, ensure};
use qmp::Qmp;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the guest says when it takes commands.
const READY: &str = "guest agent ready";
/// Limit for a boot. Interpreted it takes a few seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(90);
/// Limit for a short command.
const SHORT: Duration = Duration::from_secs(30);
/// Where a rig has the image, for every user.
const IN_RIG: &str = "/run/rig/guest";
/// The network card's address.
pub const MAC: &str = "52:54:00:12:34:56";

static MACHINES: AtomicU32 = AtomicU32::new(0);

/// QEMU's arguments but for the network: the kernel's console goes to the file `console`, commands come
/// and go by standard input and output.
fn machine_arguments(image: &Path, accel: &str, append: &str, console: &Path) -> Vec<String> {
    let at = image.display();
    let machine = format!("q35,accel={accel}");
    let cpu = if accel == "kvm" { "host" } else { "max" };
    let console = format!("file:{}", console.display());
    let (kernel, initrd) = (format!("{at}/vmlinuz"), format!("{at}/initrd"));
    // Interpreted on a busy machine, the timer ticks too seldom for the kernel, which panics.
    let append = format!("console=ttyS0 loglevel=4 no_timer_check {append}");
    ["-machine", &machine, "-cpu", cpu, "-smp", "1", "-m", "256", "-no-user-config", "-nodefaults"]
        .into_iter()
        .chain(["-display", "none", "-kernel", &kernel, "-initrd", &initrd, "-append", &append])
        .chain(["-chardev", "stdio,id=agent,signal=off", "-serial", &console])
        .chain(["-serial", "chardev:agent"])
        .map(str::to_owned)
        .collect()
}

impl Rig {
    /// A virtual machine whose QEMU `user` runs; ends the test as skipped if there is no image or no
    /// QEMU.
    pub fn machine(&self, user: User) -> Result<Machine<'_>> {
        let accel = self.guest_image()?;
        let qemu = vec!["qemu-system-x86_64".to_owned()];
        let (network, append) = (Vec::new(), String::new());
        Ok(Machine {
            rig: self,
            user,
            accel,
            qemu,
            network,
            append,
            replace: None,
            controlled: true,
        })
    }

    /// Puts the image into the rig, at `/run/rig/guest`, with the helper in it, and says how it is run.
    ///
    /// # Errors
    /// A [`RigError`] if there is no image.
    pub fn guest_image(&self) -> Result<String> {
        self.needs(&["qemu-system-x86_64", "cpio"])?;
        let to = Path::new(IN_RIG);
        if let Ok(accel) = fs::read_to_string(to.join("accel")) {
            return Ok(accel);
        }
        let Some(image) = std::env::var_os(IMAGE).map(PathBuf::from) else {
            bail!(RigError(format!("no guest: {IMAGE} is not set")));
        };
        let Ok(accel) = fs::read_to_string(image.join("accel")) else {
            bail!(RigError(format!("no guest in {}", image.display())));
        };
        let more = to.join("more");
        fs::create_dir_all(more.join("bin"))?;
        for file in ["vmlinuz", "initrd"] {
            fs::copy(image.join(file), to.join(file))?;
        }
        fs::copy(self.helper(), more.join("bin/peer"))?;
        // The kernel unpacks several archives in a row.
        image::pack(&more, &to.join("initrd"))?;
        fs::remove_dir_all(&more)?;
        if accel == "kvm" {
            self.open_kvm()?;
        }
        fs::write(to.join("accel"), &accel)?;
        Ok(accel)
    }

    /// Makes a /dev/kvm for every user.
    fn open_kvm(&self) -> Result<()> {
        let script = "mknod -m 666 /run/rig/kvm c 10 232 && mount --bind /run/rig/kvm /dev/kvm";
        self.run(&Place::Host, SHORT, &["sh", "-c", script]).map(drop)
    }
}

/// Runs `start` while children inherit `fd`.
pub fn inheriting<T>(fd: impl AsFd, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let flags = fcntl_getfd(&fd)?;
    fcntl_setfd(&fd, flags - FdFlags::CLOEXEC)?;
    let started = start();
    fcntl_setfd(&fd, flags)?;
    started
}

/// A virtual machine in the making.
#[derive(Debug, Clone)]
pub struct Machine<'r> {
    rig: &'r Rig,
    user: User,
    accel: String,
    qemu: Vec<String>,
    network: Vec<String>,
    append: String,
    replace: Option<String>,
    controlled: bool,
}

impl Machine<'_> {
    /// With this back end, whose name must be `net`, and a virtio network card.
    #[must_use]
    pub fn netdev(self, netdev: &str) -> Self {
        let device = format!("virtio-net-pci,netdev=net,mac={MAC},romfile=");
        self.args(&["-netdev", netdev, "-device", &device])
    }

    /// With further arguments for QEMU.
    #[must_use]
    pub fn args<S: AsRef<str>>(mut self, args: &[S]) -> Self {
        self.network.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// With further arguments for the kernel.
    #[must_use]
    pub fn append(mut self, append: &str) -> Self {
        append.clone_into(&mut self.append);
        self
    }

    /// With another type of machine than q35.
    #[must_use]
    pub fn machine_type(mut self, name: &str) -> Self {
        self.replace = Some(name.to_owned());
        self
    }

    /// Without a control socket.
    #[must_use]
    pub fn uncontrolled(mut self) -> Self {
        self.controlled = false;
        self
    }

    /// With a command line in place of QEMU's name, to which its arguments are added; `user` runs that.
    #[must_use]
    pub fn qemu<S: AsRef<str>>(mut self, command: &[S], user: User) -> Self {
        self.qemu = command.iter().map(|word| word.as_ref().to_owned()).collect();
        self.user = user;
        self
    }

    /// Starts the machine and waits until its guest takes commands.
    pub fn boot(&self) -> Result<Guest> {
        let mut guest = self.start()?;
        guest.wait_ready()?;
        Ok(guest)
    }

    /// Starts the machine.
    pub fn start(&self) -> Result<Guest> {
        let number = MACHINES.fetch_add(1, Ordering::Relaxed);
        let [console, control] =
            ["console", "qmp"].map(|name| self.rig.tmp().join(format!("{name}-{number}")));
        // Whoever runs QEMU may write it.
        fs::write(&console, "")?;
        fs::set_permissions(&console, fs::Permissions::from_mode(0o666))?;
        let image = Path::new(IN_RIG);
        let mut argv = self.qemu.clone();
        argv.extend(machine_arguments(image, &self.accel, &self.append, &console));
        if let Some(name) = &self.replace {
            let at = argv.iter().position(|word| word == "-machine").context("no machine")?;
            argv[at + 1] = format!("{name},accel={}", self.accel);
        }
        if self.controlled {
            argv.extend(["-qmp".into(), format!("unix:{},server=on,wait=off", control.display())]);
        }
        argv.extend(self.network.iter().cloned());
        let qemu = Proc::start(self.rig.command(&Place::Host, self.user, &argv))?;
        Ok(Guest { qemu, console, control, qmp: None, ready: 0, requests: 0 })
    }
}

/// A running virtual machine. Dropping it kills QEMU.
#[derive(Debug)]
pub struct Guest {
    qemu: Proc,
    console: PathBuf,
    control: PathBuf,
    qmp: Option<Qmp>,
    ready: usize,
    requests: u32,
}

/// A command that runs in the guest meanwhile.
#[derive(Debug)]
pub struct Job(String);

impl Guest {
    /// A guest whose QEMU somebody else starts: `line` is a program at the other end of its second serial
    /// line, from which it reads and to which it writes; `console` is what the kernel writes to the first.
    pub fn attached(line: Proc, console: PathBuf) -> Self {
        Self { qemu: line, control: PathBuf::new(), console, qmp: None, ready: 0, requests: 0 }
    }

    /// QEMU itself.
    pub fn qemu(&mut self) -> &mut Proc {
        &mut self.qemu
    }

    /// Waits until the guest has booted, once more after each reset.
    pub fn wait_ready(&mut self) -> Result<()> {
        let before = self.ready;
        let ready = wait_for("the guest to boot", BOOT, || {
            let times = self.qemu.stdout().matches(READY).count();
            if times <= before && !self.qemu.running()? {
                bail!("QEMU has ended");
            }
            Ok((times > before).then_some(times))
        });
        self.ready = self.explain(ready)?;
        let up = self.run("cat /proc/uptime")?;
        eprintln!("booted in {} s", up.split(' ').next().unwrap_or_default());
        Ok(())
    }

    /// Runs a shell command in the guest and returns its output, of both kinds; it must end with 0.
    pub fn run(&mut self, command: &str) -> Result<String> {
        self.run_within(command, SHORT)
    }

    /// Like [`Guest::run`], with a limit.
    pub fn run_within(&mut self, command: &str, limit: Duration) -> Result<String> {
        let (status, output) = self.outcome(command, limit)?;
        if status != 0 {
            let failed: Result<()> = Err(anyhow!("{command}: status {status}\n{output}"));
            self.explain(failed)?;
        }
        Ok(output)
    }

    /// Runs a shell command in the guest and returns its status and output.
    pub fn outcome(&mut self, command: &str, limit: Duration) -> Result<(i32, String)> {
        ensure!(!command.contains('\n'), "a command of several lines");
        self.requests += 1;
        let id = self.requests;
        self.qemu.say(&format!("{id} {command}"))?;
        let (begin, end) = (format!("\u{2}{id}\n"), format!("\n\u{3}{id} "));
        let answer = wait_for(&format!("the guest to run: {command}"), limit, || {
            let text = self.qemu.stdout();
            let from = text.find(&begin).map(|at| at + begin.len());
            let answer = from.and_then(|from| text.get(from..)?.split_once(&end));
            let Some((output, status)) = answer else {
                ensure!(self.qemu.running()?, "QEMU has ended");
                return Ok(None);
            };
            let Some((status, _)) = status.split_once('\n') else { return Ok(None) };
            Ok(Some((status.trim().parse()?, output.trim_end().to_owned())))
        });
        self.explain(answer)
    }

    /// Starts a shell command in the guest.
    pub fn start(&mut self, command: &str) -> Result<Job> {
        let job = Job(format!("/tmp/job-{}", self.requests));
        let at = &job.0;
        // The file is there before anybody looks into it.
        self.run(&format!(": > {at}; ({{ {command}; }} > {at} 2>&1; echo $? > {at}.status) &"))?;
        Ok(job)
    }

    /// What a command has written so far.
    pub fn output(&mut self, job: &Job) -> Result<String> {
        self.run(&format!("cat {}", job.0))
    }

    /// Waits until a command has written a line with `needle`.
    pub fn wait_line(&mut self, job: &Job, needle: &str) -> Result<String> {
        wait_for(&format!("'{needle}' from the guest"), SHORT, || {
            let output = self.output(job)?;
            Ok(output.lines().find(|line| line.contains(needle)).map(str::to_owned))
        })
    }

    /// Waits for a command's end and returns its status and what it has written.
    pub fn ended(&mut self, job: &Job, limit: Duration) -> Result<(i32, String)> {
        let at = &job.0;
        let wait = format!("until [ -s {at}.status ]; do sleep 0.1; done");
        self.outcome(&format!("{wait}; cat {at}; exit $(cat {at}.status)"), limit)
    }

    /// Like [`Guest::ended`], for a command that must end with 0.
    pub fn finish(&mut self, job: &Job, limit: Duration) -> Result<String> {
        let (status, output) = self.ended(job, limit)?;
        let ended =
            if status == 0 { Ok(output) } else { Err(anyhow!("status {status}\n{output}")) };
        self.explain(ended)
    }

    /// Sends a command to QEMU's control socket, such as `stop`, `cont` or `system_reset`.
    pub fn control(&mut self, command: &str) -> Result<Value> {
        self.control_with(command, &json!({}))
    }

    /// The same, for a command with arguments, which are an object.
    pub fn control_with(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let qmp = match &mut self.qmp {
            Some(qmp) => qmp,
            None => self.qmp.insert(Qmp::connect(&self.control)?),
        };
        qmp.execute(command, arguments)
    }

    /// Has QEMU end, and waits for that. A signal wakes it up even where it oversleeps requests.
    pub fn quit(mut self) -> Result<()> {
        self.qemu.signal(Signal::TERM)?;
        let ended =
            wait_for("the end of QEMU", SHORT, || Ok((!self.qemu.running()?).then_some(())));
        self.explain(ended)
    }

    /// Adds what the guest's kernel and QEMU have said to an error.
    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| {
            let console = fs::read(&self.console).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            format!("in the guest\nconsole: {console}\nQEMU: {}", self.qemu.stderr())
        })
    }
}
