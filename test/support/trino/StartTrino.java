/** Trino's server class has no main of its own. */
public class StartTrino
{
    public static void main(String[] args)
    {
        new io.trino.server.Server().start(System.getProperty("trino.version"));
    }
}
