import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;

/** The original: Spring Cloud's Eureka server, with the options of the command line. */
@EnableAutoConfiguration
@EnableEurekaServer
public class EurekaServer {
    public static void main(String[] options) {
        SpringApplication.run(EurekaServer.class, options);
    }
}
