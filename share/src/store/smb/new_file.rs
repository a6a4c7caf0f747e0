//! A file that this process creates, writes, and links or takes back, all by one handle.
//!
//! Whoever creates a file gets the access it asks for, whatever the rights on the file will be: so a writer can link and
//! take back its own file by the handle that created it, and needs no right to delete anything (MS-FSA section 2.1.5.1.1).

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use smb2::msg::close::{CloseRequest, CloseResponse, SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB};
use smb2::msg::create::{CreateDisposition, CreateRequest, CreateResponse, ImpersonationLevel, ShareAccess};
use smb2::msg::flush::{FlushRequest, FlushResponse};
use smb2::msg::query_info::InfoType;
use smb2::msg::read::{ReadRequest, ReadResponse, SMB2_CHANNEL_NONE};
use smb2::msg::set_info::{SetInfoRequest, SetInfoResponse};
use smb2::msg::write::WriteResponse;
use smb2::pack::{Pack, WriteCursor};
use smb2::types::flags::FileAccessMask;
use smb2::types::status::NtStatus;
use smb2::types::{Command, FileId, OplockLevel};
use smb2::{Error, FileAttributes, encode_path};

use super::session::{Session, Wire};

/// MS-SMB2 section 2.2.13: not a folder.
const FILE_NON_DIRECTORY_FILE: u32 = 0x40;
/// MS-FSCC section 2.4.
const FILE_LINK_INFORMATION: u8 = 11;
const FILE_DISPOSITION_INFORMATION: u8 = 13;

/// Requests of one file under way at once.
pub(super) const AHEAD: usize = 4;

/// Dropped before it is finished, it is taken back and closed in the background.
pub(super) struct NewFile {
    wire: Wire,
    id: FileId,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// What it has, others make nothing of: it may be taken back.
    Own,
    /// Others may have read it already.
    Public,
    Closed,
}

impl NewFile {
    /// Creates it; never opens one that is there.
    pub(super) async fn create(session: &Session, path: &str) -> Result<Self, Error> {
        let request = CreateRequest {
            requested_oplock_level: OplockLevel::None,
            impersonation_level: ImpersonationLevel::Impersonation,
            desired_access: FileAccessMask::new(
                FileAccessMask::FILE_READ_DATA
                    | FileAccessMask::FILE_WRITE_DATA
                    | FileAccessMask::FILE_READ_ATTRIBUTES
                    | FileAccessMask::FILE_WRITE_ATTRIBUTES
                    | FileAccessMask::DELETE
                    | FileAccessMask::SYNCHRONIZE,
            ),
            file_attributes: FileAttributes::NORMAL,
            // Whoever reads a slot as soon as it is there must not be turned away.
            share_access: ShareAccess(ShareAccess::FILE_SHARE_READ | ShareAccess::FILE_SHARE_DELETE),
            create_disposition: CreateDisposition::FileCreate,
            create_options: FILE_NON_DIRECTORY_FILE,
            name: encode_path(path),
            create_contexts: vec![],
        };
        let wire = session.wire();
        let created: CreateResponse = wire.ask(Command::Create, &request, 0).await?;
        Ok(Self { wire, id: created.file_id, state: State::Own })
    }

    pub(super) async fn write(&self, bytes: &Bytes) -> Result<(), Error> {
        self.pieces(bytes.len())
            .map(|(at, len)| self.write_piece(at, bytes.slice(at..at + len)))
            .buffer_unordered(AHEAD)
            .try_collect()
            .await
    }

    async fn write_piece(&self, at: usize, mut rest: Bytes) -> Result<(), Error> {
        let mut offset = at as u64;
        while !rest.is_empty() {
            let request = Write { file: self.id, offset, data: &rest };
            let answer: WriteResponse = self.wire.ask(Command::Write, &request, rest.len()).await?;
            // Where the room ends in the middle of a piece, only the next attempt is told so.
            let done = (answer.count as usize).min(rest.len());
            if done == 0 {
                return Err(Error::Protocol { status: NtStatus::DISK_FULL, command: Command::Write });
            }
            rest = rest.slice(done..);
            offset += done as u64;
        }
        Ok(())
    }

    /// Makes what was written, and its name, durable as far as the server tells the truth.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let request = FlushRequest { file_id: self.id };
        let _: FlushResponse = self.wire.ask(Command::Flush, &request, 0).await?;
        Ok(())
    }

    /// Reads everything back: whether the server has exactly these bytes, or the beginning of more.
    pub(super) async fn holds(&self, bytes: &Bytes) -> Result<bool, Error> {
        self.pieces(bytes.len())
            .map(|(at, len)| async move {
                let request = ReadRequest {
                    padding: 0x50,
                    flags: 0,
                    length: u32::try_from(len).unwrap_or(u32::MAX),
                    offset: at as u64,
                    file_id: self.id,
                    minimum_count: 0,
                    channel: SMB2_CHANNEL_NONE,
                    remaining_bytes: 0,
                    read_channel_info: vec![],
                };
                let answer: ReadResponse = self.wire.ask(Command::Read, &request, len).await?;
                Ok(answer.data == bytes[at..at + len])
            })
            .buffer_unordered(AHEAD)
            .try_all(|same| async move { same })
            .await
    }

    fn pieces(&self, len: usize) -> impl stream::Stream<Item = (usize, usize)> + use<> {
        let most = self.wire.piece();
        stream::iter((0..len).step_by(most).map(move |at| (at, most.min(len - at))))
    }

    /// From now on it is not taken back.
    pub(super) fn make_public(&mut self) {
        self.state = State::Public;
    }

    /// Gives it a second name, if nothing has that: of several who try at once, one succeeds.
    pub(super) async fn link(&self, to: &str) -> Result<(), Error> {
        let name: Vec<u8> = encode_path(to).encode_utf16().flat_map(u16::to_le_bytes).collect();
        // FileLinkInformation (MS-FSCC section 2.4.28.2): ReplaceIfExists = 0, seven bytes reserved, RootDirectory = 0.
        let mut buffer = vec![0; 16];
        buffer.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        buffer.extend_from_slice(&name);
        self.set(FILE_LINK_INFORMATION, buffer).await
    }

    async fn set(&self, class: u8, buffer: Vec<u8>) -> Result<(), Error> {
        let request = SetInfoRequest {
            info_type: InfoType::File,
            file_info_class: class,
            additional_information: 0,
            file_id: self.id,
            buffer,
        };
        let _: SetInfoResponse = self.wire.ask(Command::SetInfo, &request, 0).await?;
        Ok(())
    }

    /// Closes it, and tells its length by what the server then has.
    pub(super) async fn close(mut self) -> Result<u64, Error> {
        self.state = State::Closed;
        let request = CloseRequest { flags: SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB, file_id: self.id };
        let closed: CloseResponse = self.wire.ask(Command::Close, &request, 0).await?;
        Ok(closed.end_of_file)
    }

    /// Closes it and removes the name that it was created with, as far as that is possible; not when it is public.
    pub(super) async fn take_back(mut self) {
        let own = self.state == State::Own;
        self.state = State::Closed;
        take_back(&self.wire, self.id, own).await;
    }
}

/// SMB2 WRITE Request (MS-SMB2 section 2.2.21) over borrowed data: the library's own one wants a copy of it.
struct Write<'a> {
    file: FileId,
    offset: u64,
    data: &'a [u8],
}

impl Pack for Write<'_> {
    fn pack(&self, cursor: &mut WriteCursor) {
        // StructureSize, of whatever length the data is; DataOffset, behind the header and this.
        cursor.write_u16_le(49);
        cursor.write_u16_le(0x70);
        cursor.write_u32_le(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        cursor.write_u64_le(self.offset);
        cursor.write_u64_le(self.file.persistent);
        cursor.write_u64_le(self.file.volatile);
        // Channel, RemainingBytes, WriteChannelInfo, Flags: none.
        cursor.write_zeros(16);
        cursor.write_bytes(self.data);
    }
}

async fn take_back(wire: &Wire, id: FileId, own: bool) {
    if own {
        let request = SetInfoRequest {
            info_type: InfoType::File,
            file_info_class: FILE_DISPOSITION_INFORMATION,
            additional_information: 0,
            file_id: id,
            buffer: vec![1],
        };
        let _: Result<SetInfoResponse, Error> = wire.ask(Command::SetInfo, &request, 0).await;
    }
    let request = CloseRequest { flags: 0, file_id: id };
    let _: Result<CloseResponse, Error> = wire.ask(Command::Close, &request, 0).await;
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.state == State::Closed {
            return;
        }
        // The call was given up. The session lives on, and with it the handle.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (wire, id, own) = (self.wire.clone(), self.id, self.state == State::Own);
            runtime.spawn(async move { take_back(&wire, id, own).await });
        }
    }
}
