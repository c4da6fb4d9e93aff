import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.ServiceType;
import org.apache.curator.x.discovery.UriSpec;
import org.apache.curator.x.discovery.details.JsonInstanceSerializer;

/**
 * Takes ids, registers instances and looks for them as it is told, a line at a time, and answers each with a line: the counterpart of
 * tests/clients/kazoo/directory.py.
 */
public class Directory {
    private static final Map<String, ServiceInstance<String>> REGISTERED = new HashMap<>();
    private static final Map<String, ServiceProvider<String>> PROVIDERS = new HashMap<>();
    private static CuratorFramework client;
    private static ServiceDiscovery<String> discovery;

    public static void main(String[] arguments) throws Exception {
        client = CuratorFrameworkFactory.builder()
            .connectString(arguments[0]).sessionTimeoutMs(20_000).retryPolicy(new RetryForever(100)).build();
        client.start();
        client.blockUntilConnected();
        discovery = ServiceDiscoveryBuilder.builder(String.class).client(client).basePath("/services").build();
        discovery.start();
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            System.out.println(answer(line.split(" ")));
            System.out.flush();
        }
        System.exit(0);
    }

    private static String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "ids":
                DistributedAtomicLong ids = new DistributedAtomicLong(client, words[1], new RetryForever(1));
                return IntStream.range(0, Integer.parseInt(words[2])).mapToObj(number -> one(ids)).collect(Collectors.joining(" "));
            case "register":
                ServiceInstance<String> instance = ServiceInstance.<String>builder()
                    .name(words[1]).id(words[2]).address("10.0.0.1").port(Integer.parseInt(words[3])).payload("Curator")
                    .serviceType(ServiceType.valueOf(words[4])).build();
                discovery.registerService(instance);
                REGISTERED.put(words[2], instance);
                return "registered";
            case "unregister":
                discovery.unregisterService(REGISTERED.remove(words[1]));
                return "unregistered";
            case "discover":
                return discovery.queryForInstances(words[1]).stream().map(Directory::describe).sorted().collect(Collectors.joining(" "));
            case "provide":
                ServiceProvider<String> provider = PROVIDERS.get(words[1]);
                if (provider == null) {
                    provider = discovery.serviceProviderBuilder().serviceName(words[1]).build();
                    provider.start();
                    PROVIDERS.put(words[1], provider);
                }
                return provider.getAllInstances().stream().map(ServiceInstance::getId).sorted().collect(Collectors.joining(" "));
            case "names":
                return discovery.queryForNames().stream().sorted().collect(Collectors.joining(" "));
            case "json":
                // As this library writes it, with all fields and without those that may be left out.
                ServiceInstance<String> full = new ServiceInstance<>("web", "7", "10.0.0.1", 80, 443, "text", 1_700_000_000_000L,
                    ServiceType.STATIC, new UriSpec("{scheme}://{address}:{port}/x"), words[1].equals("enabled"));
                return new String(new JsonInstanceSerializer<>(String.class, words[1].equals("enabled")).serialize(full), StandardCharsets.UTF_8);
            default:
                return "what is " + words[0] + "?";
        }
    }

    private static String one(DistributedAtomicLong ids) {
        try {
            AtomicValue<Long> value = ids.increment();
            if (!value.succeeded()) {
                throw new IllegalStateException("an increment did not succeed");
            }
            return String.valueOf(value.postValue());
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static String describe(ServiceInstance<String> instance) {
        return String.join("|", instance.getId(), instance.getAddress(), String.valueOf(instance.getPort()), instance.getPayload(),
            instance.getServiceType().name());
    }
}
