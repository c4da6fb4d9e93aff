//! The system's GSS library (MIT Kerberos), loaded when somebody asks for it; the only file with unsafe code.
//!
//! What always holds here: whatever the library gives is released once, when its owner is dropped; bytes that it returns are copied before
//! that, and their lengths are looked at; no pointer outlives the call it is for. Every call may block, on a file or on the network, so
//! none is made on a thread that serves somebody else.
//!
//! The functions are those of RFC 2744 and MIT's `gss_acquire_cred_from`. MIT's library is safe for threads: an object may be used
//! by any of them; names and credentials, which are never changed, by several at once, for the library locks what it keeps in them.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use super::tokens::Counted;

/// What is loaded, and the packages in which it comes.
pub(crate) const LIBRARY: &str = "libgssapi_krb5.so.2";
const PACKAGES: &str = "libgssapi-krb5-2 on Debian and Ubuntu, krb5-libs on Red Hat and Alpine, krb5 on Arch";

/// Errors stand in the upper half of a major status.
const ERROR_BITS: u32 = 0xffff_0000;
const CONTINUE_NEEDED: u32 = 1;
const INDEFINITE: u32 = u32::MAX;

const FLAG_MUTUAL: u32 = 2;
const FLAG_INTEGRITY: u32 = 32;

/// The longest text of the library that is kept.
const MAX_TEXT_BYTES: usize = 1024;

#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

impl Buffer {
    const EMPTY: Buffer = Buffer { length: 0, value: null_mut() };

    /// The library only reads what a buffer for input points to.
    fn of(bytes: &[u8]) -> Buffer {
        Buffer { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
    }
}

#[repr(C)]
struct Oid {
    length: u32,
    elements: *mut c_void,
}

impl Oid {
    fn of(bytes: &'static [u8]) -> Oid {
        Oid { length: bytes.len() as u32, elements: bytes.as_ptr().cast_mut().cast() }
    }
}

#[repr(C)]
struct OidSet {
    count: usize,
    elements: *mut Oid,
}

#[repr(C)]
struct KeyValue {
    key: *const c_char,
    value: *const c_char,
}

#[repr(C)]
struct KeyValueSet {
    count: u32,
    elements: *mut KeyValue,
}

/// 1.2.840.113554.1.2.2
const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
/// 1.2.840.113554.1.2.2.1
const PRINCIPAL_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01];

type Handle = *mut c_void;
type Release = unsafe extern "C" fn(*mut u32, *mut Handle) -> u32;

/// The functions of the library. They stay loaded for as long as the process lives.
pub(crate) struct Library {
    import_name: unsafe extern "C" fn(*mut u32, *const Buffer, *const Oid, *mut Handle) -> u32,
    canonicalize_name: unsafe extern "C" fn(*mut u32, Handle, *const Oid, *mut Handle) -> u32,
    display_name: unsafe extern "C" fn(*mut u32, Handle, *mut Buffer, *mut *mut Oid) -> u32,
    release_name: Release,
    release_buffer: unsafe extern "C" fn(*mut u32, *mut Buffer) -> u32,
    #[allow(clippy::type_complexity)]
    acquire_cred_from: unsafe extern "C" fn(
        *mut u32,
        Handle,
        u32,
        *const OidSet,
        c_int,
        *const KeyValueSet,
        *mut Handle,
        *mut *mut OidSet,
        *mut u32,
    ) -> u32,
    release_cred: Release,
    #[allow(clippy::type_complexity)]
    accept_sec_context: unsafe extern "C" fn(
        *mut u32,
        *mut Handle,
        Handle,
        *const Buffer,
        *const c_void,
        *mut Handle,
        *mut *mut Oid,
        *mut Buffer,
        *mut u32,
        *mut u32,
        *mut Handle,
    ) -> u32,
    #[allow(clippy::type_complexity)]
    init_sec_context: unsafe extern "C" fn(
        *mut u32,
        Handle,
        *mut Handle,
        Handle,
        *const Oid,
        u32,
        u32,
        *const c_void,
        *const Buffer,
        *mut *mut Oid,
        *mut Buffer,
        *mut u32,
        *mut u32,
    ) -> u32,
    #[allow(clippy::type_complexity)]
    inquire_context: unsafe extern "C" fn(
        *mut u32,
        Handle,
        *mut Handle,
        *mut Handle,
        *mut u32,
        *mut *mut Oid,
        *mut u32,
        *mut c_int,
        *mut c_int,
    ) -> u32,
    delete_sec_context: unsafe extern "C" fn(*mut u32, *mut Handle, *mut Buffer) -> u32,
    wrap: unsafe extern "C" fn(*mut u32, Handle, c_int, u32, *const Buffer, *mut c_int, *mut Buffer) -> u32,
    unwrap: unsafe extern "C" fn(*mut u32, Handle, *const Buffer, *mut Buffer, *mut c_int, *mut u32) -> u32,
    display_status: unsafe extern "C" fn(*mut u32, u32, c_int, *const Oid, *mut u32, *mut Buffer) -> u32,
}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(LIBRARY)
    }
}

/// A refusal of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GssError {
    /// The number of Kerberos' own error, as a number of `com_err`.
    pub code: i32,
    /// What the library says, without control characters.
    pub text: String,
}

/// The library, loaded at the first call. An error says what is missing and how to get it.
pub(crate) fn library() -> Result<&'static Library, String> {
    static LOADED: OnceLock<Library> = OnceLock::new();
    if let Some(library) = LOADED.get() {
        return Ok(library);
    }
    let library = load(LIBRARY)?;
    Ok(LOADED.get_or_init(|| library))
}

fn load(name: &str) -> Result<Library, String> {
    let failed = |error: libloading::Error| {
        format!(
            "Kerberos needs the system's library {name}, which cannot be loaded ({error}); install the package with it: {PACKAGES}"
        )
    };
    // SAFETY: loading runs the initialisation of the system's own library, which expects nothing of the process.
    let opened = unsafe { libloading::Library::new(name) }.map_err(failed)?;
    // The functions are used until the process ends.
    let opened = Box::leak(Box::new(opened));
    macro_rules! function {
        ($symbol:literal) => {
            // SAFETY: the type of the field is the one under which the library exports this name (RFC 2744, gssapi_ext.h).
            *unsafe { opened.get($symbol) }.map_err(failed)?
        };
    }
    Ok(Library {
        import_name: function!(b"gss_import_name\0"),
        canonicalize_name: function!(b"gss_canonicalize_name\0"),
        display_name: function!(b"gss_display_name\0"),
        release_name: function!(b"gss_release_name\0"),
        release_buffer: function!(b"gss_release_buffer\0"),
        acquire_cred_from: function!(b"gss_acquire_cred_from\0"),
        release_cred: function!(b"gss_release_cred\0"),
        accept_sec_context: function!(b"gss_accept_sec_context\0"),
        init_sec_context: function!(b"gss_init_sec_context\0"),
        inquire_context: function!(b"gss_inquire_context\0"),
        delete_sec_context: function!(b"gss_delete_sec_context\0"),
        wrap: function!(b"gss_wrap\0"),
        unwrap: function!(b"gss_unwrap\0"),
        display_status: function!(b"gss_display_status\0"),
    })
}

impl Library {
    /// The principal of this name. Without a realm it is one of the default realm.
    pub fn principal(&'static self, name: &str) -> Result<Name, GssError> {
        let (mut minor, mut handle, kind) = (0, null_mut(), Oid::of(PRINCIPAL_NAME));
        // SAFETY: the buffer and the kind live for the call, which copies them.
        let major = unsafe { (self.import_name)(&mut minor, &Buffer::of(name.as_bytes()), &kind, &mut handle) };
        let imported = Name { library: self, handle };
        self.judge(major, minor)?;
        let (mut handle, mechanism) = (null_mut(), Oid::of(KERBEROS));
        // Only now the name is taken apart, and has a realm.
        // SAFETY: the name and the mechanism live for the call.
        let major = unsafe { (self.canonicalize_name)(&mut minor, imported.handle, &mechanism, &mut handle) };
        let name = Name { library: self, handle };
        self.judge(major, minor)?;
        Ok(name)
    }

    /// What a side of an exchange shows or judges by. `store` says where keys and tickets are.
    pub fn credential(
        &'static self,
        side: Side,
        name: Option<&Name>,
        store: &[(&str, &str)],
    ) -> Result<Credential, GssError> {
        let texts: Result<Vec<(CString, CString)>, std::ffi::NulError> =
            store.iter().map(|(key, value)| Ok((CString::new(*key)?, CString::new(*value)?))).collect();
        let texts = texts.map_err(|_| GssError { code: 0, text: "a path has a zero byte".to_owned() })?;
        let mut elements: Vec<KeyValue> =
            texts.iter().map(|(key, value)| KeyValue { key: key.as_ptr(), value: value.as_ptr() }).collect();
        let places = KeyValueSet { count: elements.len() as u32, elements: elements.as_mut_ptr() };
        let mut mechanism = Oid::of(KERBEROS);
        let mechanisms = OidSet { count: 1, elements: &mut mechanism };
        let usage = match side {
            Side::Initiator => 1,
            Side::Acceptor => 2,
        };
        let (mut minor, mut handle) = (0, null_mut());
        let name = name.map_or(null_mut(), |name| name.handle);
        // SAFETY: the texts behind `places`, the name and the mechanism live for the call, which keeps none of them; results that are
        // not asked for may be null.
        let major = unsafe {
            (self.acquire_cred_from)(
                &mut minor,
                name,
                INDEFINITE,
                &mechanisms,
                usage,
                &places,
                &mut handle,
                null_mut(),
                null_mut(),
            )
        };
        let credential = Credential { library: self, handle };
        self.judge(major, minor)?;
        Ok(credential)
    }

    /// An exchange that has not begun.
    pub fn context(&'static self) -> Context {
        Context { library: self, handle: null_mut() }
    }

    fn judge(&'static self, major: u32, minor: u32) -> Result<(), GssError> {
        if major & ERROR_BITS == 0 {
            return Ok(());
        }
        let (general, own) = (self.status(major, 1), self.status(minor, 2));
        let text = match own.is_empty() || minor == 0 {
            true => general,
            false => own,
        };
        Err(GssError { code: minor as i32, text })
    }

    /// The first text for a status. `kind` is 1 for a major one, 2 for a minor one.
    fn status(&'static self, status: u32, kind: c_int) -> String {
        let (mut minor, mut more, mut output, mechanism) = (0, 0, Owned::new(self), Oid::of(KERBEROS));
        // SAFETY: all arguments live for the call.
        let major =
            unsafe { (self.display_status)(&mut minor, status, kind, &mechanism, &mut more, &mut output.buffer) };
        if major & ERROR_BITS != 0 { String::new() } else { shown(output.bytes()) }
    }
}

/// A text of the library, for a log.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT_BYTES)]).into_owned();
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A buffer of the library, which is given back when it is dropped.
struct Owned {
    library: &'static Library,
    buffer: Buffer,
}

impl Owned {
    fn new(library: &'static Library) -> Owned {
        Owned { library, buffer: Buffer::EMPTY }
    }

    fn bytes(&self) -> &[u8] {
        let Buffer { length, value } = self.buffer;
        if value.is_null() || length == 0 || length > isize::MAX as usize {
            return &[];
        }
        // SAFETY: the library says that `length` bytes are there; they live until the buffer is released, which `drop` does.
        unsafe { std::slice::from_raw_parts(value.cast(), length) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the buffer is empty or was filled by the library, and is released this once.
        unsafe { (self.library.release_buffer)(&mut minor, &mut self.buffer) };
    }
}

/// A principal.
#[derive(Debug)]
pub(crate) struct Name {
    library: &'static Library,
    handle: Handle,
}

/// Which end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Initiator,
    Acceptor,
}

// SAFETY: see the head of this file.
unsafe impl Send for Name {}
// SAFETY: as above; nothing changes a name.
unsafe impl Sync for Name {}

impl Name {
    /// `service/host@REALM`, as Kerberos writes it. None where it is no text.
    pub fn text(&self) -> Result<String, GssError> {
        let (mut minor, mut output) = (0, Owned::new(self.library));
        // SAFETY: the name lives; the kind of the name is not asked for.
        let major = unsafe { (self.library.display_name)(&mut minor, self.handle, &mut output.buffer, null_mut()) };
        self.library.judge(major, minor)?;
        let no_text = |_| GssError { code: 0, text: "a principal whose name is not UTF-8".to_owned() };
        String::from_utf8(output.bytes().to_vec()).map_err(no_text)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is null, which is released as nothing, or this name's own.
        unsafe { (self.library.release_name)(&mut minor, &mut self.handle) };
    }
}

/// Keys to accept by, or tickets to show.
#[derive(Debug)]
pub(crate) struct Credential {
    library: &'static Library,
    handle: Handle,
}

// SAFETY: see the head of this file.
unsafe impl Send for Credential {}
// SAFETY: as above; MIT locks a credential while it uses it.
unsafe impl Sync for Credential {}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: as of a name.
        unsafe { (self.library.release_cred)(&mut minor, &mut self.handle) };
    }
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Context {
    library: &'static Library,
    handle: Handle,
}

// SAFETY: see the head of this file.
unsafe impl Send for Context {}
// SAFETY: nothing can be done with a shared one; every use takes it by `&mut`.
unsafe impl Sync for Context {}

/// What comes of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// To be sent; empty for nothing.
    pub token: Vec<u8>,
    /// Whether both sides are done.
    pub is_established: bool,
}

impl Context {
    /// Takes a token of the side that begins.
    pub fn accept(&mut self, credential: &Credential, token: Counted<'_>) -> Result<Stepped, GssError> {
        let (mut minor, mut output) = (0, Owned::new(self.library));
        // SAFETY: credential and token live for the call; the context is this one's own, or null for a new one; results that are not
        // asked for may be null.
        let major = unsafe {
            (self.library.accept_sec_context)(
                &mut minor,
                &mut self.handle,
                credential.handle,
                &Buffer::of(token.bytes()),
                null(),
                null_mut(),
                null_mut(),
                &mut output.buffer,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        self.stepped(major, minor, &output)
    }

    /// Makes the next token for this principal; `token` is empty at first.
    pub fn initiate(
        &mut self,
        credential: &Credential,
        target: &Name,
        token: Counted<'_>,
    ) -> Result<Stepped, GssError> {
        let (mut minor, mut output, mechanism) = (0, Owned::new(self.library), Oid::of(KERBEROS));
        // SAFETY: as above.
        let major = unsafe {
            (self.library.init_sec_context)(
                &mut minor,
                credential.handle,
                &mut self.handle,
                target.handle,
                &mechanism,
                FLAG_MUTUAL | FLAG_INTEGRITY,
                0,
                null(),
                &Buffer::of(token.bytes()),
                null_mut(),
                &mut output.buffer,
                null_mut(),
                null_mut(),
            )
        };
        self.stepped(major, minor, &output)
    }

    fn stepped(&self, major: u32, minor: u32, output: &Owned) -> Result<Stepped, GssError> {
        self.library.judge(major, minor)?;
        Ok(Stepped { token: output.bytes().to_vec(), is_established: major & CONTINUE_NEEDED == 0 })
    }

    /// The principal that began the exchange.
    pub fn initiator(&mut self) -> Result<String, GssError> {
        let (mut minor, mut handle) = (0, null_mut());
        // SAFETY: the context lives; results that are not asked for may be null.
        let major = unsafe {
            (self.library.inquire_context)(
                &mut minor,
                self.handle,
                &mut handle,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        let name = Name { library: self.library, handle };
        self.library.judge(major, minor)?;
        name.text()
    }

    /// A message for the other side, signed and not encrypted.
    pub fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, GssError> {
        let (mut minor, mut output) = (0, Owned::new(self.library));
        // SAFETY: context and message live for the call.
        let major = unsafe {
            (self.library.wrap)(&mut minor, self.handle, 0, 0, &Buffer::of(message), null_mut(), &mut output.buffer)
        };
        self.library.judge(major, minor)?;
        Ok(output.bytes().to_vec())
    }

    /// A message of the other side, whose signature was checked.
    pub fn unwrap(&mut self, message: Counted<'_>) -> Result<Vec<u8>, GssError> {
        let (mut minor, mut output) = (0, Owned::new(self.library));
        // SAFETY: as above.
        let major = unsafe {
            (self.library.unwrap)(
                &mut minor,
                self.handle,
                &Buffer::of(message.bytes()),
                &mut output.buffer,
                null_mut(),
                null_mut(),
            )
        };
        self.library.judge(major, minor)?;
        Ok(output.bytes().to_vec())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut minor = 0;
        if !self.handle.is_null() {
            // SAFETY: as of a name; a context of the library is not used after this.
            unsafe { (self.library.delete_sec_context)(&mut minor, &mut self.handle, null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_named_with_its_package() {
        let error = load("libnobodyhasthis.so.7").unwrap_err();
        assert!(error.contains("libnobodyhasthis.so.7") && error.contains("libgssapi-krb5-2"), "{error}");
    }

    #[test]
    fn a_library_without_the_functions_is_refused() {
        let error = load("libc.so.6").unwrap_err();
        assert!(error.contains("gss_import_name"), "{error}");
    }

    #[test]
    fn texts_for_the_log_have_one_line_and_an_end() {
        assert_eq!(shown(b"a\nb\x1b[2J\xff"), "a b [2J\u{fffd}");
        assert_eq!(shown(&[b'x'; 5000]).len(), MAX_TEXT_BYTES);
    }
}
