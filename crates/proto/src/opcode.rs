//! The numbers of requests, transactions and results.

macro_rules! opcodes {
    ($($name:ident = $number:literal,)*) => {
        /// What a request asks for, or what a transaction does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum OpCode {
            $($name = $number,)*
        }

        impl OpCode {
            /// Every opcode there is, requests and transactions.
            pub const ALL: &'static [OpCode] = &[$(OpCode::$name,)*];

            /// The opcode by its number; `None` for numbers that are none.
            pub fn from_i32(number: i32) -> Option<OpCode> {
                match number {
                    $($number => Some(OpCode::$name),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    Notification = 0,
    Create = 1,
    Delete = 2,
    Exists = 3,
    GetData = 4,
    SetData = 5,
    GetAcl = 6,
    SetAcl = 7,
    GetChildren = 8,
    Sync = 9,
    Ping = 11,
    GetChildren2 = 12,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CheckWatches = 17,
    RemoveWatches = 18,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
    MultiRead = 22,
    Auth = 100,
    SetWatches = 101,
    Sasl = 102,
    GetEphemerals = 103,
    GetAllChildrenNumber = 104,
    SetWatches2 = 105,
    AddWatch = 106,
    WhoAmI = 107,
    CreateSession = -10,
    CloseSession = -11,
    Error = -1,
}

impl OpCode {
    /// As the wire and the log have it.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Whether a client may send it by itself. Stricter than the original, which also lets clients send two internal requests.
    pub fn is_client_request(self) -> bool {
        !matches!(
            self,
            OpCode::Notification | OpCode::Check | OpCode::DeleteContainer | OpCode::CreateSession | OpCode::Error
        )
    }

    /// Whether it takes a place in the order of writes.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            OpCode::Create
                | OpCode::Create2
                | OpCode::CreateContainer
                | OpCode::CreateTtl
                | OpCode::Delete
                | OpCode::DeleteContainer
                | OpCode::SetData
                | OpCode::SetAcl
                | OpCode::Multi
                | OpCode::Reconfig
                | OpCode::CreateSession
                | OpCode::CloseSession
        )
    }

    /// The four letters by which `cons` names the last operation of a connection.
    pub fn four_letters(self) -> &'static str {
        match self {
            OpCode::Notification => "NOTI",
            OpCode::Create => "CREA",
            OpCode::Create2 => "CRE2",
            OpCode::CreateContainer => "CREC",
            OpCode::CreateTtl => "CRTT",
            OpCode::Delete => "DELE",
            OpCode::Exists => "EXIS",
            OpCode::GetData => "GETD",
            OpCode::SetData => "SETD",
            OpCode::GetAcl => "GETA",
            OpCode::SetAcl => "SETA",
            OpCode::GetChildren => "GETC",
            OpCode::GetChildren2 => "GETC",
            OpCode::Sync => "SYNC",
            OpCode::Ping => "PING",
            OpCode::Check => "CHEC",
            OpCode::Multi => "MULT",
            OpCode::MultiRead => "MULR",
            OpCode::Reconfig => "RECO",
            OpCode::CheckWatches => "CHKW",
            OpCode::RemoveWatches => "REMW",
            OpCode::DeleteContainer => "DELC",
            OpCode::Auth => "AUTH",
            OpCode::SetWatches | OpCode::SetWatches2 => "SETW",
            OpCode::Sasl => "SASL",
            OpCode::GetEphemerals => "GETE",
            OpCode::GetAllChildrenNumber => "GACN",
            OpCode::AddWatch => "ADDW",
            OpCode::WhoAmI => "WHOA",
            OpCode::CreateSession => "SESS",
            OpCode::CloseSession => "CLOS",
            OpCode::Error => "ERRO",
        }
    }
}
