//! `rookeeper id`: numbers that nobody else is given.

use clap::Args;
use rookeeper_recipes::{Ids, Layout};

use crate::exclusive::{SessionFlags, close, complain, connect, run};
use crate::print;

/// Unique numbers.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The node counts: it holds the greatest number that was given out, as Apache Curator's DistributedAtomicLong has it, so Java programs may take from the same
count. Of numbers whose taking was cut off some may be skipped; none is given twice.

Exit code: 0; 69 no server gives a session, or it has ended; 128 + N signal N came; 1 anything else.")]
pub struct Options {
    /// The node that counts; made where it is not there
    pub path: String,

    #[command(flatten)]
    pub session: SessionFlags,

    /// So many numbers, one after the other, a line each; they cost one write all the same
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,

    /// The node holds a decimal text, as kazoo's Counter has it
    #[arg(long)]
    pub kazoo: bool,
}

/// Runs `rookeeper id` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    run(async |signals| {
        let client = connect(&options.session, signals).await?;
        let layout = if options.kazoo { Layout::Kazoo } else { Layout::Curator };
        let ids = Ids::new(&client, &options.path).with_layout(layout);
        let code = tokio::select! {
            taken = ids.reserve(options.count) => match taken {
                Ok(mut range) => range.find_map(|id| print::result_of_many(&id)).unwrap_or(0),
                Err(error) => complain(&error),
            },
            number = signals.next() => 128 + number as u8,
        };
        drop(ids);
        close(client).await;
        Ok(code)
    })
}
