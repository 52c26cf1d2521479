//! A Unix socket and its file. It is removed with the socket, unless another process has put its own there.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use super::socket::Socket;

#[derive(Debug)]
pub(super) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file, if it is ours to remove.
    ours: Option<(u64, u64)>,
}

impl SocketFile {
    /// One that was passed: who made it removes it.
    pub(super) fn passed(listener: std::os::unix::net::UnixListener, path: &str) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: path.into(), ours: None })
    }

    /// Listens at a path, with this mode (octal; empty: what the umask says). If it `replaces`, it takes the place of
    /// the socket of another process, which goes on serving those who are connected.
    pub(super) async fn bind(path: &str, mode: &str, replaces: bool, backlog: u32) -> io::Result<Self> {
        let path = Path::new(path);
        if !replaces {
            remove_stale(path).await?;
        }
        // Renaming would also replace a file that is none of ours.
        let beside = (replaces && is_socket(path)).then(|| beside(path));
        let listener = listen(beside.as_deref().unwrap_or(path), mode, backlog)?;
        if let Some(beside) = &beside {
            fs::rename(beside, path)?;
        }
        let ours = fs::symlink_metadata(path).map(|file| identity(&file)).ok();
        Ok(Self { listener, path: path.to_owned(), ours })
    }

    pub(super) async fn accept(&self) -> io::Result<Socket> {
        let (stream, _) = self.listener.accept().await?;
        let name = format!("{}:0", self.path.display());
        Ok(Socket::Unix(stream.into_std()?, (name.clone(), name)))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let there = fs::symlink_metadata(&self.path).map(|file| identity(&file)).ok();
        if self.ours.is_some() && there == self.ours {
            // It may have been removed by hand.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// A name in the same folder that no other process takes.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// The file has its mode before anybody can connect: until it listens, who tries is refused.
fn listen(path: &Path, mode: &str, backlog: u32) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Ok(mode) = u32::from_str_radix(mode, 8) {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(backlog.cast_signed())?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// A socket file that nobody answers on was left by a process that was killed. One that is too busy to answer was not.
async fn remove_stale(path: &Path) -> io::Result<()> {
    if !is_socket(path) {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}
