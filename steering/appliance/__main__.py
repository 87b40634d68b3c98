from steering.appliance.command import main

main()
