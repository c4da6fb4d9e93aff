import com.netflix.appinfo.ApplicationInfoManager;
import com.netflix.appinfo.InstanceInfo;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.stream.Collectors;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.cloud.client.ServiceInstance;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.cloud.client.loadbalancer.LoadBalancerClient;
import org.springframework.context.ConfigurableApplicationContext;

/**
 * An instance of Spring Cloud, with the options of the command line. Each line of its input is answered with a line: `see APP` with what it knows of an
 * application, `choose APP` with the instance that its balancer chooses, `status S` once it says that of itself, `stop` once it has left in order.
 */
@EnableAutoConfiguration
public class SpringInstance {
    public static void main(String[] options) throws Exception {
        ConfigurableApplicationContext context = SpringApplication.run(SpringInstance.class, options);
        System.out.println("answer started");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            String[] words = line.split(" ");
            System.out.println("answer " + switch (words[0]) {
                case "see" -> context.getBean(DiscoveryClient.class).getInstances(words[1]).stream()
                        .map(ServiceInstance::getInstanceId).sorted().collect(Collectors.joining(","));
                case "choose" -> {
                    ServiceInstance chosen = context.getBean(LoadBalancerClient.class).choose(words[1]);
                    yield chosen == null ? "" : chosen.getInstanceId();
                }
                case "status" -> {
                    context.getBean(ApplicationInfoManager.class).setInstanceStatus(InstanceInfo.InstanceStatus.valueOf(words[1]));
                    yield "done";
                }
                case "stop" -> {
                    context.close();
                    yield "done";
                }
                default -> "what?";
            });
        }
    }
}
