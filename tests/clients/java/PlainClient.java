import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Stat;

/** The Java client of the original: transactions, persistent watches, node kinds, and a session that outlives its server. */
public class PlainClient {
    private static final long DEADLINE_SECONDS = 60;
    private static final byte[] NOTHING = {};
    private static String address;

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        try (ZooKeeper zk = connect(event -> { }); ZooKeeper other = connect(event -> { })) {
            nodes(zk);
            multi(zk);
            kinds(zk, other);
            persistentWatches(zk, other);
            authentication(zk, other);
            restart(zk, other);
        }
        System.out.println("all was well");
    }

    private static ZooKeeper connect(Watcher watcher) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(address, 30_000, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
            watcher.process(event);
        });
        check(connected.await(DEADLINE_SECONDS, TimeUnit.SECONDS), "no connection to " + address);
        return zk;
    }

    private static void nodes(ZooKeeper zk) throws Exception {
        equal(zk.create("/j", bytes("one"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/j");
        Stat stat = new Stat();
        equal(new String(zk.getData("/j", false, stat), StandardCharsets.UTF_8), "one");
        equal(zk.setData("/j", bytes("two"), stat.getVersion()).getVersion(), 1);
        refused(KeeperException.Code.BADVERSION, () -> zk.setData("/j", NOTHING, 0));
        refused(KeeperException.Code.NODEEXISTS, () -> zk.create("/j", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        refused(KeeperException.Code.NONODE, () -> zk.delete("/nope", -1));
        equal(zk.create("/j/null", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/j/null");
        equal(zk.getData("/j/null", false, null), null);
        for (int number = 1; number <= 3; number++) {
            String expected = String.format("/j/s-%010d", number);
            equal(zk.create("/j/s-", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL), expected);
        }
        equal(zk.getAllChildrenNumber("/j"), 4);
        refused(KeeperException.Code.NOTEMPTY, () -> zk.delete("/j", -1));
    }

    private static void multi(ZooKeeper zk) throws Exception {
        List<OpResult> results = zk.multi(List.of(
            Op.create("/j/m", bytes("1"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.setData("/j/m", bytes("2"), 0),
            Op.check("/j/m", 1),
            Op.create("/j/m/e", NOTHING, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL),
            Op.delete("/j/m/e", -1)));
        equal(results.size(), 5);
        equal(((OpResult.SetDataResult) results.get(1)).getStat().getVersion(), 1);
        try {
            zk.multi(List.of(
                Op.create("/j/never", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.check("/j/m", 77)));
            throw new AssertionError("a multi with a wrong version was accepted");
        } catch (KeeperException.BadVersionException expected) {
            equal(zk.exists("/j/never", false), null);
        }
        List<OpResult> reads = zk.multi(List.of(Op.getData("/j/m"), Op.getChildren("/j"), Op.getData("/nope")));
        equal(new String(((OpResult.GetDataResult) reads.get(0)).getData(), StandardCharsets.UTF_8), "2");
        check(((OpResult.GetChildrenResult) reads.get(1)).getChildren().contains("m"), "getChildren in a multi");
        equal(((OpResult.ErrorResult) reads.get(2)).getErr(), KeeperException.Code.NONODE.intValue());
    }

    private static void kinds(ZooKeeper zk, ZooKeeper other) throws Exception {
        zk.create("/kinds", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/kinds/ttl", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 200);
        zk.create("/kinds/container", NOTHING, OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        zk.create("/kinds/container/child", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal(zk.exists("/kinds/ttl", false).getEphemeralOwner(), 0L);
        zk.create("/kinds/mine", NOTHING, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        other.create("/kinds/others", NOTHING, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        equal(zk.getEphemerals(), List.of("/kinds/mine"));
        equal(other.getEphemerals("/kinds"), List.of("/kinds/others"));
        zk.delete("/kinds/container/child", -1);
        eventually(() -> zk.exists("/kinds/ttl", false) == null, "the TTL node goes");
        eventually(() -> zk.exists("/kinds/container", false) == null, "the emptied container goes");
    }

    private static void persistentWatches(ZooKeeper zk, ZooKeeper other) throws Exception {
        zk.create("/watch", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        BlockingQueue<WatchedEvent> recursive = new LinkedBlockingQueue<>();
        BlockingQueue<WatchedEvent> persistent = new LinkedBlockingQueue<>();
        Watcher recursiveWatcher = recursive::add;
        zk.addWatch("/watch", recursiveWatcher, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.create("/single", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.addWatch("/single", persistent::add, AddWatchMode.PERSISTENT);
        other.create("/watch/a", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        other.create("/watch/a/b", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        other.setData("/watch/a/b", bytes("x"), -1);
        other.setData("/watch", bytes("x"), -1);
        other.delete("/watch/a/b", -1);
        expectEvent(recursive, EventType.NodeCreated, "/watch/a");
        expectEvent(recursive, EventType.NodeCreated, "/watch/a/b");
        expectEvent(recursive, EventType.NodeDataChanged, "/watch/a/b");
        expectEvent(recursive, EventType.NodeDataChanged, "/watch");
        expectEvent(recursive, EventType.NodeDeleted, "/watch/a/b");
        other.create("/single/a", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        other.setData("/single", bytes("x"), -1);
        other.setData("/single/a", bytes("not watched"), -1);
        other.setData("/single", bytes("y"), -1);
        expectEvent(persistent, EventType.NodeChildrenChanged, "/single");
        expectEvent(persistent, EventType.NodeDataChanged, "/single");
        expectEvent(persistent, EventType.NodeDataChanged, "/single");
        zk.removeWatches("/watch", recursiveWatcher, Watcher.WatcherType.Any, false);
    }

    private static void authentication(ZooKeeper zk, ZooKeeper other) throws Exception {
        zk.addAuthInfo("digest", bytes("bob:secret"));
        zk.create("/private", bytes("his"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        refused(KeeperException.Code.NOAUTH, () -> other.getData("/private", false, null));
        equal(new String(zk.getData("/private", false, null), StandardCharsets.UTF_8), "his");
        List<String> schemes = new ArrayList<>();
        for (ClientInfo info : zk.whoAmI()) {
            schemes.add(info.getAuthScheme());
        }
        check(schemes.contains("digest") && schemes.contains("ip"), "whoAmI: " + schemes);
    }

    /** The session, its ephemeral nodes, its watches and its identities are there again after the server was killed. */
    private static void restart(ZooKeeper zk, ZooKeeper other) throws Exception {
        BlockingQueue<WatchedEvent> oneShot = new LinkedBlockingQueue<>();
        BlockingQueue<WatchedEvent> recursive = new LinkedBlockingQueue<>();
        BlockingQueue<WatchedEvent> absent = new LinkedBlockingQueue<>();
        Watcher quiet = event -> {
            if (event.getType() != EventType.None) {
                oneShot.add(event);
            }
        };
        zk.create("/again", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/again/e", NOTHING, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        zk.getData("/again", quiet, null);
        zk.exists("/absent", event -> {
            if (event.getType() != EventType.None) {
                absent.add(event);
            }
        });
        zk.addWatch("/again", event -> {
            if (event.getType() != EventType.None) {
                recursive.add(event);
            }
        }, AddWatchMode.PERSISTENT_RECURSIVE);
        long session = zk.getSessionId();
        System.out.println("restart-server");
        equal(new BufferedReader(new InputStreamReader(System.in)).readLine(), "done");
        eventually(() -> zk.exists("/again", false) != null && other.exists("/again", false) != null, "both are back");
        equal(zk.getSessionId(), session);
        equal(zk.exists("/again/e", false).getEphemeralOwner(), session);
        equal(new String(zk.getData("/private", false, null), StandardCharsets.UTF_8), "his");
        other.setData("/again", bytes("new"), -1);
        other.create("/absent", NOTHING, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        expectEvent(oneShot, EventType.NodeDataChanged, "/again");
        expectEvent(recursive, EventType.NodeDataChanged, "/again");
        expectEvent(absent, EventType.NodeCreated, "/absent");
        other.setData("/again", bytes("newer"), -1);
        expectEvent(recursive, EventType.NodeDataChanged, "/again");
        check(oneShot.isEmpty(), "a one-shot watch fired twice");
    }

    private interface Call {
        void call() throws KeeperException, InterruptedException;
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void refused(KeeperException.Code code, Call call) throws InterruptedException {
        try {
            call.call();
        } catch (KeeperException refusal) {
            equal(refusal.code(), code);
            return;
        }
        throw new AssertionError("not refused with " + code);
    }

    private static void eventually(Condition condition, String what) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
        while (true) {
            try {
                if (condition.holds()) {
                    return;
                }
            } catch (KeeperException.ConnectionLossException reconnecting) {
                // Asked again until the deadline.
            }
            check(System.nanoTime() < until, "did not happen: " + what);
            Thread.sleep(10);
        }
    }

    private static void expectEvent(BlockingQueue<WatchedEvent> events, EventType type, String path) throws Exception {
        WatchedEvent event = events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
        check(event != null, "no event " + type + " " + path);
        equal(event.getType() + " " + event.getPath(), type + " " + path);
    }

    private static void equal(Object found, Object expected) {
        check(Objects.equals(found, expected), "expected " + expected + ", found " + found);
    }

    private static void check(boolean holds, String complaint) {
        if (!holds) {
            throw new AssertionError(complaint);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
