import io.trino.spi.Plugin;
import io.trino.spi.security.AccessDeniedException;
import io.trino.spi.security.BasicPrincipal;
import io.trino.spi.security.PasswordAuthenticator;
import io.trino.spi.security.PasswordAuthenticatorFactory;

import java.security.Principal;
import java.util.List;
import java.util.Map;

/** One password for every user: Trino's own password authenticators are not on Maven Central. */
public class OnePasswordPlugin
        implements Plugin
{
    @Override
    public Iterable<PasswordAuthenticatorFactory> getPasswordAuthenticatorFactories()
    {
        return List.of(new PasswordAuthenticatorFactory()
        {
            @Override
            public String getName()
            {
                return "one-password";
            }

            @Override
            public PasswordAuthenticator create(Map<String, String> config)
            {
                return (user, password) -> authenticate(user, password, config.get("one-password.value"));
            }
        });
    }

    private static Principal authenticate(String user, String password, String expected)
    {
        if (!password.equals(expected)) {
            throw new AccessDeniedException("Invalid credentials");
        }
        return new BasicPrincipal(user);
    }
}
